"""A stored tensor with torch's type of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from services.worker.stored_tensors import StoredTensor

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorInfo:
    """One tensor of a file, by its header: nothing of it has been read."""

    name: str
    file: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int  # bytes from the start of the file
    num_bytes: int

    @classmethod
    def of(cls, stored: StoredTensor) -> TensorInfo:
        """The same tensor; every type that a header may name is one of torch's."""
        return cls(
            name=stored.name,
            file=stored.file,
            dtype=DTYPES[stored.dtype],
            shape=stored.shape,
            start=stored.start,
            num_bytes=stored.num_bytes,
        )
