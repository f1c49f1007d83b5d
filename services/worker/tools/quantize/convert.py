"""From a 16-bit folder to one in FP8, one tensor in memory at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from octavo.errors import FailedPreconditionError
from octavo.status_line import StatusLine
from services.worker.checkpoint.reader import CheckpointReader
from services.worker.fp8_matrix import to_e4m3
from services.worker.model_config import JsonFile
from services.worker.placement import DECODER_PLACEMENT
from services.worker.tools.layouts import Layout
from services.worker.tools.quantize.scales import (
    channel_scales,
    input_scale,
    stored_type,
    tensor_scales,
)
from services.worker.tools.shards import Declared, Pieces, plan_shards, write_shards

_PIECE_VALUES = 2**22
_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
# Of a decoder's layers; embeddings and head stay as they are.
_QUANTISED = DECODER_PLACEMENT.keys() - {"embed_tokens", "lm_head"}
_COPIED = (".json", ".model", ".jinja")
_NOT_COPIED = ("config.json", "model.safetensors.index.json", "octavo-recipe.json")


class Converter:
    """One checkpoint on its way into one layout."""

    def __init__(self, source: Path, layout: Layout, largest: Mapping[str, float] | None) -> None:
        """`largest` are the inputs of each matrix, where the layout stores a scale for them."""
        self._source = source
        self._layout = layout
        self._largest = largest
        self._config = JsonFile.read(source / "config.json").values
        if self._config.get("quantization_config") or self._config.get("use_fp8_e4m3"):
            raise FailedPreconditionError(
                f"{source} is quantised already.", reason="ALREADY_QUANTISED"
            )
        self._reader = CheckpointReader(source)
        self._matrices = {
            name.removesuffix(".weight")
            for name in self._reader.tensors
            if name.endswith(".weight") and name.split(".")[-2] in _QUANTISED
        }
        if not self._matrices:
            raise FailedPreconditionError(
                f"{source} holds no matrix of a decoder's layers.", reason="NOTHING_TO_QUANTISE"
            )
        self._scales: dict[str, torch.Tensor] = {}

    def write(self, folder: Path, line: StatusLine) -> None:
        """Writes the checkpoint to an empty folder; config.json last, which makes it one."""
        if self._layout.grain == "tensor":
            line.show("finding scales")
            dtype = stored_type(self._layout, self._model_type)
            self._scales = tensor_scales(self._reader, sorted(self._matrices), dtype)
        write_shards(
            folder,
            plan_shards(list(self._declared())),
            self._pieces,
            lambda done, total: line.show(
                "writing", f"{done / 1e6:,.0f} / {total / 1e6:,.0f} MB", is_last=done == total
            ),
        )
        for path in sorted(self._source.iterdir()):
            if path.suffix in _COPIED and path.name not in _NOT_COPIED:
                shutil.copyfile(path, folder / path.name)
        config = json.dumps({**self._config, **self._layout.config}, indent=2, ensure_ascii=False)
        (folder / "config.json").write_text(config + "\n", encoding="utf-8")

    @property
    def _model_type(self) -> str:
        """The type of the matrices as they are stored now."""
        return _NAMES[self._reader.info(f"{min(self._matrices)}.weight").dtype]

    def _declared(self) -> Iterator[Declared]:
        for name, info in self._reader.tensors.items():
            matrix = name.removesuffix(".weight")
            if matrix in self._matrices:
                rows, columns = info.shape
                yield from self._layout.declare(matrix, rows, columns, self._model_type)
            else:
                yield Declared(name=name, dtype=_NAMES[info.dtype], shape=info.shape)

    def _pieces(self, tensor: Declared) -> Pieces:
        matrix, _, kind = tensor.name.rpartition(".")
        if matrix not in self._matrices or kind == "bias":
            yield _array(self._reader.read(tensor.name))
        elif kind == self._layout.scale:
            yield _array(self._weight_scale(matrix).reshape(tensor.shape))
        elif kind == self._layout.input_scale:
            assert self._largest is not None, "static scales need calibration"
            dtype = stored_type(self._layout, self._model_type)
            yield _array(input_scale(matrix, self._largest, dtype).reshape(tensor.shape))
        else:
            yield from self._codes(matrix)

    def _weight_scale(self, matrix: str) -> torch.Tensor:
        if self._layout.grain == "tensor":
            return self._scales[matrix]
        dtype = stored_type(self._layout, self._model_type)
        return channel_scales(self._reader.read(f"{matrix}.weight"), dtype)

    def _codes(self, matrix: str) -> Iterator[npt.NDArray[Any]]:
        weight, scale = self._reader.read(f"{matrix}.weight"), self._weight_scale(matrix).float()
        step = max(1, _PIECE_VALUES // weight.shape[1])
        for start in range(0, len(weight), step):
            rows = slice(start, start + step)
            part = scale if scale.ndim == 0 else scale[rows]
            yield _array(to_e4m3(weight[rows].float(), part))


def _array(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """The bytes, for numpy knows neither bf16 nor FP8."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().view(np.uint8)
