"""The folder that is read, and which of its matrices become FP8: those of the decoder's layers.

Embeddings, norms, biases and the head stay as they are, as the dialects' own tools leave them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from services.worker.checkpoint.reader import CheckpointReader
from services.worker.model_config import ModelFiles, checkpoint_error
from services.worker.models import Model, build_decoder, find_model
from services.worker.models.paged import PagedModel
from services.worker.tools.quantize.streamed import MatrixGroup, StreamedKernels, StreamedWeights


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A checkpoint in 16 or 32 bits: `model` computes hidden states, and reads as it does."""

    folder: Path
    files: ModelFiles
    reader: CheckpointReader
    groups: Sequence[MatrixGroup]
    model: Model


def open_source(
    folder: Path, device: torch.device, on_inputs: Callable[[MatrixGroup, torch.Tensor], None]
) -> Source:
    """Raises OctavoError for what cannot be loaded, and for what is quantised already."""
    files = ModelFiles.read(folder)
    architecture, config = find_model(files)
    if config.quantization:
        method = config.quantization.get("quant_method") or "fp8"
        raise checkpoint_error(
            "config.json",
            f"the checkpoint is quantised already ({method!r:.40}); quantize reads 16 and 32 bits",
            key="quantization_config",
        )
    reader = CheckpointReader(folder)
    weights = StreamedWeights(reader, config, device)
    kernels = StreamedKernels(reader, device, on_inputs)
    decoder = build_decoder(architecture, config, kernels=kernels, weights=weights)
    model = PagedModel(config, kernels, decoder, kernels.dtype)
    return Source(folder=folder, files=files, reader=reader, groups=weights.groups, model=model)
