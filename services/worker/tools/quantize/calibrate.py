"""How large the inputs of each matrix get while the model reads a text: what static scales are for.

The model that serves does the reading, on kernels that look at what they are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from octavo.errors import InWords, invalid_field
from octavo.status_line import StatusLine
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.checkpoint.weights import Matrix, Weights
from services.worker.fp8_matrix import Fp8Matrix
from services.worker.kernels.reference import ReferenceKernels, ReferenceLinear
from services.worker.layers.parts import Parts
from services.worker.model_config import ModelFiles
from services.worker.models import find_architecture
from services.worker.models.paged import PagedModel
from services.worker.parallel.group import Group
from services.worker.tools.perplexity.measure import score_windows
from services.worker.tools.text_ids import encode_text

_WINDOW = 512


class _WatchingKernels(ReferenceKernels):
    """Notes the largest magnitude of what each packed matrix is multiplied by."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(device, dtype)
        self.names: Sequence[str] = ()  # of the matrices that are packed next
        self.largest: dict[str, float] = {}
        self._names_of: dict[int, Sequence[str]] = {}

    def pack_linear(
        self, weight: torch.Tensor | Fp8Matrix, bias: torch.Tensor | None = None
    ) -> ReferenceLinear:
        packed = super().pack_linear(weight, bias)
        self._names_of[id(packed)] = self.names
        return packed

    def linear(self, x: torch.Tensor, weight: ReferenceLinear) -> torch.Tensor:
        seen = float(x.abs().max()) if len(x) else 0.0
        for name in self._names_of[id(weight)]:
            self.largest[name] = max(seen, self.largest.get(name, 0.0))
        return super().linear(x, weight)


class _NamingWeights(Weights):
    """Tells the kernels which matrices they are given."""

    def __init__(self, kernels: _WatchingKernels, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._kernels = kernels

    def stacked(
        self, names: Sequence[str], *, rows: Sequence[int], columns: int, unit: int = 1
    ) -> list[Matrix]:
        self._kernels.names = tuple(names)
        return super().stacked(names, rows=rows, columns=columns, unit=unit)


def largest_inputs(folder: Path, text: str, line: StatusLine) -> dict[str, float]:
    """By the names of the matrices, without ".weight". Raises OctavoError."""
    kernels = _WatchingKernels(torch.device("cpu"), torch.bfloat16)
    model = _load(folder, kernels, line)
    # Whole tiles, so that no row is there to fill one: it would be looked at, too.
    tile = kernels.padded_rows(1)
    windows = encode_text(folder, text).windows(min(_WINDOW, model.config.max_context))
    windows = [window[: len(window) // tile * tile] for window in windows if len(window) >= tile]
    if not windows:
        raise invalid_field("--calibration", InWords("a text that is too short"), f"{tile} tokens")
    kernels.largest.clear()
    score_windows(
        model,
        windows,
        lambda done, total: line.show(
            "calibrating", f"{done} / {total} windows", is_last=done == total
        ),
    )
    return kernels.largest


def _load(folder: Path, kernels: _WatchingKernels, line: StatusLine) -> PagedModel:
    files = ModelFiles.read(folder)
    architecture = find_architecture(files.config)
    config = architecture.read_config(files)
    weights = _NamingWeights(
        kernels,
        CheckpointReader(folder),
        None,
        dtype=kernels.dtype,
        device=kernels.device,
        placement=architecture.PLACEMENT,
        rank=0,
        size=1,
        on_progress=lambda done, total: line.show(
            "loading the model", f"{done / 1e6:.0f} / {total / 1e6:.0f} MB", is_last=done == total
        ),
    )
    parts = Parts(config=config, kernels=kernels, weights=weights, group=Group(rank=0, size=1))
    with torch.inference_mode():
        decoder = architecture.Decoder(parts)
    weights.finish()
    return PagedModel(config, kernels, decoder, kernels.dtype)
