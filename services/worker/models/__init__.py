"""The models: one file per architecture, named as model_type, and the one way to load them.

config = read_config(folder)
model = load_model(folder, device=torch.device("cpu"), dtype=None)
cache = model.allocate_kv_cache(num_blocks=1000, block_tokens=16)
logits = model.forward(batch, cache)
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, cast

import structlog
import torch

from services.worker.batch import Batch
from services.worker.checkpoint.dialects import choose_dialect
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.checkpoint.weight_counts import WeightCounts
from services.worker.checkpoint.weights import Weights
from services.worker.kernels import Backend, Kernels, KVCache, choose_kernels
from services.worker.layers.parts import Parts
from services.worker.model_config import (
    JsonFile,
    ModelConfig,
    ModelFiles,
    read_model_type,
    served_model_types,
)
from services.worker.models.paged import Decoder, PagedModel
from services.worker.parallel.group import Group
from services.worker.placement import Placement

log = structlog.get_logger()


class Architecture(Protocol):
    """What a model file offers."""

    ARCHITECTURE: str  # what config.json's `architectures` calls it
    PLACEMENT: Mapping[str, Placement]

    def read_config(self, files: ModelFiles) -> ModelConfig:
        """The configuration; raises InvalidArgumentError, naming file, key and value."""

    def Decoder(self, parts: Parts) -> Decoder:
        """The network, built of what `parts` reads."""


class Model(Protocol):
    """What the engine runs."""

    config: ModelConfig
    dtype: torch.dtype  # of activations
    backend: str  # which kernels run, as far as it decides the bits

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

    def argmax(self, logits: torch.Tensor) -> torch.Tensor:
        """Of each row of logits the lowest id of the largest, [rows] int64; -1 where one of them is
        not finite.
        """

    def forward(self, batch: Batch, kv_cache: KVCache) -> torch.Tensor:
        """A step and its logits: those of batch.logit_rows, [L, vocabulary] float32."""


def read_config(folder: Path) -> ModelConfig:
    """What config.json says, and generation_config.json where it is.

    Raises NotFoundError where there is no config.json, InvalidArgumentError (file, key and value
    named) for an unknown architecture and for what this version cannot run truthfully.
    """
    return find_model(ModelFiles.read(folder))[1]


def find_model(files: ModelFiles) -> tuple[Architecture, ModelConfig]:
    """The architecture that the files ask for, and what they say of it; raises as read_config."""
    architecture = _find_architecture(files.config)
    return architecture, architecture.read_config(files)


def build_decoder(
    architecture: Architecture,
    config: ModelConfig,
    *,
    kernels: Kernels,
    weights: Weights,
    group: Group | None = None,
) -> Decoder:
    """The network, of weights that are then all read; raises InvalidArgumentError where they do not
    fit, or where the checkpoint holds more.
    """
    parts = Parts(config=config, kernels=kernels, weights=weights, group=group or Group())
    with torch.inference_mode(), weights.reading_all():
        decoder = architecture.Decoder(parts)
        weights.finish()
    return decoder


def _find_architecture(config: JsonFile) -> Architecture:
    """The file that is named as model_type. Raises InvalidArgumentError where there is none."""
    architecture = _ARCHITECTURES[read_model_type(config)]
    if config.values.get("architectures") not in (None, [], [architecture.ARCHITECTURE]):
        raise config.error("architectures", f"[{architecture.ARCHITECTURE!r}]")
    return architecture


def load_model(
    folder: Path,
    *,
    device: torch.device,
    dtype: torch.dtype | None,
    rank: int = 0,
    size: int = 1,
    num_threads: int | None = None,
    fp8_weights: bool = False,
    fp8_activations: bool = False,
    fp8_kv_cache: bool = False,
    backend: Backend = "auto",
    on_progress: Callable[[int, int], None] = lambda loaded_bytes, total_bytes: None,
) -> Model:
    """Loads this rank's part of the checkpoint in `folder`.

    dtype None: ModelConfig.default_dtype. num_threads is set for the whole process, before kernels
    are compared for row invariance, which holds for that number of threads.
    on_progress is told (loaded bytes, total bytes) of the files.

    fp8_weights: 16-bit weights of the decoder's layers are rounded to FP8 as they are loaded.
    fp8_activations: FP8 matrices get their inputs rounded as the checkpoint declares it.
    fp8_kv_cache: keys and values are stored in FP8, with the checkpoint's scales.

    Raises NotFoundError and InvalidArgumentError, naming file, key or tensor, and reason.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    architecture, config = find_model(ModelFiles.read(folder))
    dialect = choose_dialect(config.quantization)
    group = Group(rank=rank, size=size)
    kernels = choose_kernels(
        device,
        dtype or _default_dtype(config, device),
        head_dim=config.head_dim,
        fp8_activations=fp8_activations,
        fp8_kv_cache=fp8_kv_cache,
        backend=backend,
    )
    weights = Weights(
        CheckpointReader(folder),
        dialect,
        dtype=kernels.dtype,
        device=device,
        placement=architecture.PLACEMENT,
        rank=rank,
        size=size,
        on_progress=on_progress,
        quantise=fp8_weights,
    )
    decoder = build_decoder(architecture, config, kernels=kernels, weights=weights, group=group)
    _warn_of_idle_choices(weights.counts, fp8_weights, fp8_activations, fp8_kv_cache)
    kv_dtype = torch.float8_e4m3fn if fp8_kv_cache else kernels.dtype
    return PagedModel(config, kernels, decoder, kv_dtype)


def _warn_of_idle_choices(
    counts: WeightCounts, fp8_weights: bool, fp8_activations: bool, fp8_kv_cache: bool
) -> None:
    """Says which choices do nothing for this checkpoint; its answer is right all the same."""
    if fp8_weights and not counts.matrices_rounded:
        log.warning("quantization to FP8 changes nothing: no matrix of the layers is in 16 bits")
    if fp8_activations and not counts.matrices_with_inputs:
        log.warning(
            "activations in FP8 change nothing: no matrix declares how its inputs are rounded"
        )
    if fp8_kv_cache and counts.without_kv_scales:
        log.warning(
            "the checkpoint has no scales for some keys and values in FP8: 1.0 is used",
            layers=len(counts.without_kv_scales),
        )


def _default_dtype(config: ModelConfig, device: torch.device) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, config.default_dtype(on_cpu=device.type == "cpu"))
    return dtype


def _model_files() -> Mapping[str, Architecture]:
    """model_type -> its file."""
    files = {name: importlib.import_module(f"{__name__}.{name}") for name in served_model_types()}
    return {name: cast("Architecture", file) for name, file in files.items()}


_ARCHITECTURES = _model_files()

__all__ = [
    "KVCache",
    "Model",
    "ModelConfig",
    "build_decoder",
    "find_model",
    "load_model",
    "read_config",
]
