"""What makes two tokenizers, checkpoints or numerics the same: SHA-256, in hexadecimal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")
CONFIG_FILES = ("config.json", "generation_config.json", "hf_quant_config.json")
_SAMPLES = 64
_SAMPLE_BYTES = 64 * 1024
_SMALL_FILE_BYTES = 2 * _SAMPLES * _SAMPLE_BYTES


def tokenizer_fingerprint(folder: Path) -> str:
    """Over the tokenizer's files that exist in `folder`, with their names."""
    digest = hashlib.sha256()
    for name in TOKENIZER_FILES:
        path = folder / name
        if path.is_file():
            _add(digest, name, path.stat().st_size, [path.read_bytes()])
    return digest.hexdigest()


def checkpoint_fingerprint(folder: Path) -> str:
    """Over the configuration and the weights in `folder`.

    A large safetensors file counts with its name, its size and 64 windows of 64 KiB, the first and
    the last bytes among them: a 70 GB checkpoint is told apart in a moment, not in minutes.
    """
    digest = hashlib.sha256()
    for name in CONFIG_FILES:
        path = folder / name
        if path.is_file():
            _add(digest, name, path.stat().st_size, [path.read_bytes()])
    for path in sorted(folder.glob("*.safetensors")):
        _add(digest, path.name, path.stat().st_size, _samples(path))
    return digest.hexdigest()


def numerics_fingerprint(parts: Mapping[str, str]) -> str:
    """Over what decides the bits of the logits: backend, device, degree, versions."""
    digest = hashlib.sha256()
    for name in sorted(parts):
        value = parts[name].encode()
        _add(digest, name, len(value), [value])
    return digest.hexdigest()


def _add(digest: hashlib._Hash, name: str, size: int, chunks: Iterable[bytes]) -> None:
    digest.update(f"{name}\0{size}\0".encode())
    for chunk in chunks:
        digest.update(chunk)


def _samples(path: Path) -> Iterable[bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _SMALL_FILE_BYTES:
            yield file.read()
            return
        last_start = size - _SAMPLE_BYTES
        for index in range(_SAMPLES):
            file.seek(last_start * index // (_SAMPLES - 1))
            yield file.read(_SAMPLE_BYTES)
