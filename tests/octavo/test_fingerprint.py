"""octavo.fingerprint: equal exactly where the files that matter are equal."""

from pathlib import Path

from octavo.fingerprint import checkpoint_fingerprint, numerics_fingerprint, tokenizer_fingerprint


def write(folder: Path, **files: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


def test_the_tokenizer_is_its_files(tmp_path: Path) -> None:
    first = write(tmp_path / "a", tokenizer__json=b"{}", tokenizer_config__json=b"{}")
    second = write(tmp_path / "b", tokenizer__json=b"{}", tokenizer_config__json=b"{}", other=b"x")
    assert tokenizer_fingerprint(first) == tokenizer_fingerprint(second)
    write(second, tokenizer_config__json=b"[]")
    assert tokenizer_fingerprint(first) != tokenizer_fingerprint(second)


def test_a_file_that_moved_to_another_name_counts(tmp_path: Path) -> None:
    first = write(tmp_path / "a", tokenizer__json=b"x")
    second = write(tmp_path / "b", tokenizer__model=b"x")
    assert tokenizer_fingerprint(first) != tokenizer_fingerprint(second)


def test_the_checkpoint_is_configuration_and_weights(tmp_path: Path) -> None:
    first = write(tmp_path / "a", config__json=b"{}", model__safetensors=b"\x01" * 1000)
    second = write(tmp_path / "b", config__json=b"{}", model__safetensors=b"\x01" * 1000)
    assert checkpoint_fingerprint(first) == checkpoint_fingerprint(second)
    write(second, model__safetensors=b"\x01" * 999 + b"\x02")
    assert checkpoint_fingerprint(first) != checkpoint_fingerprint(second)


def test_a_large_file_is_told_apart_at_both_ends_and_by_size(tmp_path: Path) -> None:
    size = 9 * 2**20
    fingerprints = set()
    for index, (length, changed) in enumerate([(size, 0), (size, size - 1), (size + 1, 0)]):
        content = bytearray(length)
        content[changed] = 1
        folder = write(tmp_path / str(index), model__safetensors=bytes(content))
        fingerprints.add(checkpoint_fingerprint(folder))
    assert len(fingerprints) == 3


def test_numerics_do_not_depend_on_order() -> None:
    assert numerics_fingerprint({"a": "1", "b": "2"}) == numerics_fingerprint({"b": "2", "a": "1"})
    assert numerics_fingerprint({"a": "1"}) != numerics_fingerprint({"a": "2"})
