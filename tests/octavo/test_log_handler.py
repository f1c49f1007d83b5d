"""octavo.log_handler: a log that cannot be written costs lines, never the process."""

from __future__ import annotations

import fcntl
import logging
import os
import select
import time
from collections.abc import Iterator

import pytest

from octavo.log_handler import DroppingHandler

PIPE_BYTES = 4 * select.PIPE_BUF


def record(text: str) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": text})


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    yield read_end, write_end
    os.close(write_end)
    os.close(read_end)


def test_lines_arrive_whole_whatever_is_in_them(pipe: tuple[int, int]) -> None:
    handler = DroppingHandler(pipe[1])
    handler.emit(record("first"))
    handler.emit(record("half a pair: \ud83d"))
    assert os.read(pipe[0], 4096) == b"first\nhalf a pair: \\ud83d\n"
    assert handler.num_dropped == 0


def test_a_reader_that_is_gone_costs_lines_only() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    handler = DroppingHandler(write_end)
    for _ in range(3):
        handler.emit(record("nobody reads"))
    os.close(write_end)
    assert handler.num_dropped == 3


def test_a_descriptor_that_is_closed_costs_lines_only(pipe: tuple[int, int]) -> None:
    copy = os.dup(pipe[1])
    handler = DroppingHandler(copy)
    os.close(copy)
    handler.emit(record("nowhere"))
    assert handler.num_dropped == 1


def test_a_full_disk_costs_lines_only() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    handler = DroppingHandler(full)
    handler.emit(record("no space left"))
    os.close(full)
    assert handler.num_dropped == 1


def test_what_cannot_be_formatted_costs_its_line_only(pipe: tuple[int, int]) -> None:
    handler = DroppingHandler(pipe[1])
    handler.emit(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
    handler.emit(record("next"))
    assert (os.read(pipe[0], 4096), handler.num_dropped) == (b"next\n", 1)


def test_a_reader_that_does_not_read_is_waited_for_once(pipe: tuple[int, int]) -> None:
    handler = DroppingHandler(pipe[1])
    began_at = time.monotonic()
    for _ in range(1_000):
        handler.emit(record("x" * 100))
    assert time.monotonic() - began_at < 10  # not a tenth of a second each
    assert handler.num_dropped > 800
    num_before = handler.num_dropped
    os.read(pipe[0], PIPE_BYTES)
    handler.emit(record("read again"))
    assert os.read(pipe[0], PIPE_BYTES) == b"read again\n"
    assert handler.num_dropped == num_before


def test_after_a_line_that_was_cut_the_next_begins_on_its_own(pipe: tuple[int, int]) -> None:
    handler = DroppingHandler(pipe[1])
    handler.emit(record("x" * PIPE_BYTES))
    assert handler.num_dropped == 1
    assert os.read(pipe[0], PIPE_BYTES) == b"x" * PIPE_BYTES
    handler.emit(record("next"))
    assert os.read(pipe[0], 4096) == b"\nnext\n"
