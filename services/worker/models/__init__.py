"""The models: one file per architecture, named as model_type, and the one way to load them.

model = load_model(folder, device=torch.device("cpu"), dtype=None)
cache = model.allocate_kv_cache(num_blocks=1000, block_tokens=16)
logits = model.forward(batch, cache)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch

from services.worker.batch import Batch
from services.worker.checkpoint.fp8 import choose_dialect
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.checkpoint.weights import Weights
from services.worker.kernels import KVCache, choose_kernels
from services.worker.layers.parts import Parts
from services.worker.model_config import ModelConfig
from services.worker.models import llama
from services.worker.models.paged import PagedModel
from services.worker.parallel.group import Group

_FILES = {"llama": llama}  # model_type -> its file; model_config.py refuses every other


class Model(Protocol):
    """What the engine runs."""

    config: ModelConfig
    dtype: torch.dtype  # of activations and cache

    def kv_bytes_per_block(self, block_tokens: int) -> int:
        """Bytes that one block of all layers takes on this rank."""

    def allocate_kv_cache(self, num_blocks: int, block_tokens: int) -> KVCache:
        """An empty cache; raises InvalidArgumentError for a block size that does not fit."""

    def hidden_states(self, batch: Batch, kv_cache: KVCache) -> torch.Tensor:
        """One step: writes the batch's keys and values, returns what the logits of batch.logit_rows
        are made from.

        [L, hidden size]. A row's bits do not depend on the rest of the batch.
        """

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The logits of any rows of hidden states: [rows, vocabulary] float32, each as if alone."""

    def forward(self, batch: Batch, kv_cache: KVCache) -> torch.Tensor:
        """Both in one: the logits of batch.logit_rows, [L, vocabulary] float32."""


def load_model(
    folder: Path,
    *,
    device: torch.device,
    dtype: torch.dtype | None,
    rank: int = 0,
    size: int = 1,
    num_threads: int | None = None,
    on_progress: Callable[[int, int], None] = lambda loaded_bytes, total_bytes: None,
) -> Model:
    """Loads this rank's part of the checkpoint in `folder`.

    dtype None: the checkpoint's own, but bfloat16 for a float16 checkpoint on a CPU, because CPUs
    multiply bfloat16 natively and few multiply float16. num_threads is set for the whole process,
    before kernels are compared for row invariance, which holds for that number of threads.
    on_progress is told (loaded bytes, total bytes) of the files.

    Raises NotFoundError and InvalidArgumentError, naming file, key or tensor, and reason.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    config = ModelConfig.read(folder)
    dialect = choose_dialect(config.quantization)
    group = Group(rank=rank, size=size)
    kernels = choose_kernels(device, dtype or _default_dtype(config, device))
    architecture = _FILES[config.model_type]
    weights = Weights(
        CheckpointReader(folder),
        dialect,
        dtype=kernels.dtype,
        device=device,
        placement=architecture.PLACEMENT,
        rank=rank,
        size=size,
        on_progress=on_progress,
    )
    parts = Parts(config=config, kernels=kernels, weights=weights, group=group)
    with torch.inference_mode():
        decoder = architecture.Decoder(parts)
    weights.finish()
    return PagedModel(config, kernels, decoder)


def _default_dtype(config: ModelConfig, device: torch.device) -> torch.dtype:
    dtypes = {
        "float32": torch.float32,
        "float16": torch.bfloat16 if device.type == "cpu" else torch.float16,
        "bfloat16": torch.bfloat16,
    }
    return dtypes[config.dtype]


__all__ = ["KVCache", "Model", "ModelConfig", "load_model"]
