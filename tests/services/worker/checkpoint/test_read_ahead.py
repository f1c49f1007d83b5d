"""Reading ahead: what the disk must give, to a bound, and never in the way."""

from __future__ import annotations

import os
from pathlib import Path
from queue import Queue

import pytest

from services.worker.checkpoint import read_ahead
from services.worker.checkpoint.read_ahead import ReadAhead

CHUNK = 1000
WAIT_S = 10


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Queue[int]:
    """Where chunks are read that are in no memory, in their order; the bound is two of them."""
    monkeypatch.setattr(read_ahead, "_CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(read_ahead, "_LEAD_BYTES", 2 * CHUNK)
    read, starts = os.preadv, Queue[int]()

    def preadv(file: int, buffers: list[bytearray], start: int, flags: int = 0) -> int:
        if flags:
            raise BlockingIOError
        starts.put(start)
        return read(file, buffers, start)

    monkeypatch.setattr(os, "preadv", preadv)
    return starts


def write(folder: Path, *sizes: int) -> list[Path]:
    files = [folder / f"{index}.safetensors" for index in range(len(sizes))]
    for file, size in zip(files, sizes, strict=True):
        file.write_bytes(bytes(size))
    return files


def test_it_stays_a_bound_ahead_of_what_is_loaded(tmp_path: Path, reads: Queue[int]) -> None:
    ahead = ReadAhead(write(tmp_path, 10 * CHUNK))
    ahead.start()
    assert [reads.get(timeout=WAIT_S) for _ in range(2)] == [0, CHUNK]
    ahead.advance(CHUNK)
    assert reads.get(timeout=WAIT_S) == 2 * CHUNK
    ahead.close()
    assert reads.empty()


def test_one_file_follows_another(tmp_path: Path, reads: Queue[int]) -> None:
    ahead = ReadAhead(write(tmp_path, CHUNK + 1, CHUNK))
    ahead.start()
    ahead.advance(CHUNK)
    assert [reads.get(timeout=WAIT_S) for _ in range(3)] == [0, CHUNK, 0]
    ahead.close()


def test_what_is_in_memory_is_left_alone(
    tmp_path: Path, reads: Queue[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "_is_in_memory", lambda file, place: place < CHUNK)
    ahead = ReadAhead(write(tmp_path, 2 * CHUNK))
    ahead.start()
    assert reads.get(timeout=WAIT_S) == CHUNK
    ahead.close()


def test_a_file_that_is_gone_is_for_the_loader_to_say(tmp_path: Path) -> None:
    ahead = ReadAhead([tmp_path / "gone.safetensors", *write(tmp_path, CHUNK)])
    ahead.start()
    ahead.close()
