"""What a folder's safetensors files hold, by their headers alone: no tensor is read, and no torch.

One reader for all who ask: ranks that load, the front that plans, `octavo inspect`, tools.

header.py   the header of a file, checked against the file
shards.py   which files hold the tensors, by the index
"""

from __future__ import annotations

from services.worker.stored_tensors.header import (
    ITEM_BYTES,
    StoredTensor,
    file_error,
    read_header,
    tensor_error,
)
from services.worker.stored_tensors.shards import (
    INDEX,
    SINGLE,
    find_shards,
    read_index,
    read_stored_tensors,
    refused_pickle,
)

__all__ = [
    "INDEX",
    "ITEM_BYTES",
    "SINGLE",
    "StoredTensor",
    "file_error",
    "find_shards",
    "read_header",
    "read_index",
    "read_stored_tensors",
    "refused_pickle",
    "tensor_error",
]
