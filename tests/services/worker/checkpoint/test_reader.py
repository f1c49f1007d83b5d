"""Reading safetensors: what is there, and files that lie."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from octavo.errors import InvalidArgumentError, NotFoundError
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.checkpoint.tensor_info import DTYPES as DTYPE_NAMES
from services.worker.stored_tensors import ITEM_BYTES

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]


def test_every_dtype_is_read_as_written(tmp_path: Path) -> None:
    written = {str(dtype): (torch.arange(24) % 2).view(2, 3, 4).to(dtype) for dtype in DTYPES}
    written |= {"scalar": torch.tensor(0.5), "empty": torch.empty(0, 7)}
    save_file(written, tmp_path / "model.safetensors", metadata={"format": "pt"})
    reader = CheckpointReader(tmp_path)
    assert set(reader.tensors) == set(written)
    assert reader.total_bytes == sum(tensor.nbytes for tensor in written.values())
    for name, tensor in written.items():
        read = reader.read(name)
        assert read.dtype == tensor.dtype
        assert read.shape == tensor.shape
        assert torch.equal(read.view(-1).view(torch.uint8), tensor.view(-1).view(torch.uint8))


def test_the_format_and_torch_agree_on_all_types() -> None:
    assert {name: dtype.itemsize for name, dtype in DTYPE_NAMES.items()} == ITEM_BYTES


def test_a_tensor_that_is_not_there_is_named(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(InvalidArgumentError, match=r"^model\.safetensors: tensor 'b' is missing"):
        CheckpointReader(tmp_path).read("b")
    index = {"weight_map": {"a": "model.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidArgumentError, match=r"^model\.safetensors\.index\.json: tensor 'b'"):
        CheckpointReader(tmp_path).read("b")


def test_pickles_are_never_read(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(NotFoundError, match=r"pytorch_model\.bin is a pickle"):
        CheckpointReader(tmp_path)
    index = {"weight_map": {"a": "pytorch_model.bin"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidArgumentError, match=r"'pytorch_model\.bin'; that is a pickle"):
        CheckpointReader(tmp_path)


def test_a_shard_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.safetensors")
    index = {"weight_map": {"a": "a.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidArgumentError, match=r"names a\.safetensors, which is no file"):
        CheckpointReader(tmp_path)


def header(entries: Any, data: bytes = b"") -> bytes:
    """A file with this header, as the format has it."""
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str, shape: Any, start: Any, stop: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is cut off: 0 bytes"),
        (b"1234", "is cut off"),
        ((2**63).to_bytes(8, "little") + b"{}", "header of 9223372036854775808 bytes"),
        ((100).to_bytes(8, "little") + b"{}", "header of 100 bytes"),
        (header(b"{"), "not JSON"),
        (header(b"\xff\xfe"), "not JSON"),
        (header(b"[" * 100_000), "not JSON"),
        (header([]), "not a JSON object"),
        (header(b'{"a": 1, "a": 2}'), "a name stands twice"),
        (header({"a": 3}), "'a' is not described by an object"),
        (header({"a": entry("F128", [1], 0, 16)}, b"0" * 16), "unknown dtype 'F128'"),
        (header({"a": entry("F32", [-1], 0, 4)}, b"0" * 4), "impossible shape"),
        (header({"a": entry("F32", "no", 0, 4)}, b"0" * 4), "impossible shape"),
        (header({"a": entry("F32", [True], 0, 4)}, b"0" * 4), "impossible shape"),
        (header({"a": entry("F32", [2**40, 2**40], 0, 4)}, b"0" * 4), "has 4 bytes"),
        (header({"a": entry("F32", [1], 4, 0)}, b"0" * 4), "impossible data_offsets"),
        (header({"a": entry("F32", [1], "0", 4)}, b"0" * 4), "impossible data_offsets"),
        (header({"a": entry("F32", [2], 0, 4)}, b"0" * 4), "has 4 bytes; F32 [2] takes 8"),
        (header({"a": entry("F32", [2], 0, 8)}, b"0" * 4), "is cut off: 4 bytes are missing"),
        (header({"a": entry("F32", [1], 4, 8)}, b"0" * 8), "leaves a gap"),
        (
            header({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 2, 6)}, b"0" * 8),
            "overlaps",
        ),
        (header({"a": entry("F32", [1], 0, 4)}, b"0" * 9), "5 bytes that belong to no tensor"),
    ],
)
def test_a_file_that_lies_is_refused_with_its_name(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InvalidArgumentError, match=r"^model\.safetensors: ") as caught:
        CheckpointReader(tmp_path)
    assert reason in caught.value.message


def write_index(folder: Path, weight_map: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize(
    "file",
    ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "a\\b.safetensors", "x.txt", 7],
)
def test_an_index_may_not_lead_out_of_the_folder(tmp_path: Path, file: object) -> None:
    write_index(tmp_path, {"a": file})
    with pytest.raises(
        InvalidArgumentError, match=r"tensor 'a' is in .* it must be a \.safetensors"
    ):
        CheckpointReader(tmp_path)


def _index_of_a_missing_file(folder: Path) -> None:
    write_index(folder, {"a": "gone.safetensors"})


def _index_of_a_missing_tensor(folder: Path) -> None:
    save_file({"b": torch.ones(1)}, folder / "part.safetensors")
    write_index(folder, {"a": "part.safetensors"})


def _tensor_in_two_files(folder: Path) -> None:
    save_file({"a": torch.ones(1)}, folder / "one.safetensors")
    save_file({"a": torch.ones(1), "b": torch.ones(1)}, folder / "two.safetensors")
    write_index(folder, {"a": "one.safetensors", "b": "two.safetensors"})


def _index_without_a_map(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("[]")


def _empty_index(folder: Path) -> None:
    write_index(folder, {})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_index_of_a_missing_file, r"gone\.safetensors does not exist"),
        (_index_of_a_missing_tensor, r"'a' is said to be in part\.safetensors, which lacks it"),
        (_tensor_in_two_files, r"two\.safetensors: tensor 'a' is in one\.safetensors too"),
        (_index_without_a_map, "not JSON with a weight_map"),
        (_empty_index, "names no tensor"),
    ],
)
def test_an_index_that_lies_is_refused(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path)
    with pytest.raises((InvalidArgumentError, NotFoundError), match=message):
        CheckpointReader(tmp_path)


def test_a_shard_that_the_index_does_not_name_is_refused(tmp_path: Path) -> None:
    for number in (1, 2):
        save_file(
            {f"t{number}": torch.ones(1)}, tmp_path / f"model-0000{number}-of-00002.safetensors"
        )
    write_index(tmp_path, {"t1": "model-00001-of-00002.safetensors"})
    save_file({"other": torch.ones(1)}, tmp_path / "consolidated.safetensors")  # not read
    with pytest.raises(
        InvalidArgumentError, match=r"does not name model-00002-of-00002\.safetensors"
    ):
        CheckpointReader(tmp_path)


def test_an_index_may_have_the_older_name_of_a_scale(tmp_path: Path) -> None:
    save_file({"m.input_scale": torch.ones(1)}, tmp_path / "model.safetensors")
    write_index(tmp_path, {"m.act_scale": "model.safetensors"})
    assert CheckpointReader(tmp_path).tensors.keys() == {"m.input_scale"}


def test_the_symlinks_of_a_hubs_cache_are_followed(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "revision"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    save_file({"a": torch.arange(4)}, blobs / "0123")
    (snapshot / "model.safetensors").symlink_to("../../blobs/0123")
    assert CheckpointReader(snapshot).read("a").tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("target", ["gone", "model.safetensors", "pipe", "folder"])
def test_a_symlink_that_leads_to_no_file_is_refused(tmp_path: Path, target: str) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    (tmp_path / "folder").mkdir()
    (tmp_path / "model.safetensors").symlink_to(target)
    with pytest.raises(NotFoundError, match=r"neither model\.safetensors nor"):
        CheckpointReader(tmp_path)


def test_a_file_that_becomes_shorter_or_goes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(100), "b": torch.ones(100)}, path)
    reader = CheckpointReader(tmp_path)
    os.truncate(path, path.stat().st_size - 40)
    assert torch.equal(reader.read("a"), torch.ones(100))
    with pytest.raises(InvalidArgumentError, match=r"'b' is cut off: the file became shorter"):
        reader.read("b")
    path.unlink()
    with pytest.raises(InvalidArgumentError, match=r"^model\.safetensors: cannot be opened"):
        reader.read("a")


@pytest.mark.parametrize("columns", [range(8), range(2, 5), range(5, 5)])
@pytest.mark.parametrize("rows", [range(10), range(3, 7), range(10, 10)])
def test_a_part_is_read_where_it_lies(tmp_path: Path, rows: range, columns: range) -> None:
    matrix = torch.arange(80, dtype=torch.int16).view(10, 8)
    save_file({"a": torch.ones(3), "m": matrix}, tmp_path / "model.safetensors")
    out = torch.empty((len(rows), len(columns)), dtype=torch.int16)
    CheckpointReader(tmp_path).read_part("m", rows, columns, out)
    expected = matrix[rows.start : rows.stop, columns.start : columns.stop]
    assert torch.equal(out, expected)


def test_a_ranks_part_reads_no_other_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.arange(80, dtype=torch.int8).view(10, 8)
    save_file({"m": matrix}, tmp_path / "model.safetensors")
    reader, read = CheckpointReader(tmp_path), list[tuple[int, int]]()

    def preadv(file: int, buffers: list[memoryview], offset: int) -> int:
        read.append((offset, len(buffers[0])))
        return real(file, buffers, offset)

    real = os.preadv
    monkeypatch.setattr(os, "preadv", preadv)
    start = reader.info("m").start
    reader.read_part("m", range(2, 5), range(8), torch.empty((3, 8), dtype=torch.int8))
    assert read == [(start + 16, 24)]
    read.clear()
    reader.read_part("m", range(10), range(4, 8), torch.empty((10, 4), dtype=torch.int8))
    assert read == [(start + 8 * row + 4, 4) for row in range(10)]
