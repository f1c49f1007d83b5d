"""Random tensors of a checkpoint in any layout.

Matrices are normal with the variance 1 / inputs, so that activations keep their size through any
number of layers. Values are picked from a table of 65,536 normal quantiles, in the type that is
stored: as fast as random bytes. A tensor's values depend on the seed and its name alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from services.worker.tools.layouts import Layout
from services.worker.tools.prepare.rounding import E4M3_MAX, bf16_bits, e4m3_bits
from services.worker.tools.shards import Declared, Pieces
from services.worker.tools.synthesize.shapes import ModelShape

_TABLE_SIZE = 2**16
_PIECE_VALUES = 2**23
_LARGEST_INPUT = 8.0  # of a quantised matrix, in standard deviations: what static scales are for
_NORMS = ("input_layernorm", "post_attention_layernorm")


def declare_tensors(shape: ModelShape, layout: Layout) -> list[Declared]:
    """All tensors, in the order of the model."""

    def plain(name: str, *sizes: int) -> Declared:
        return Declared(name=f"{name}.weight", dtype=shape.dtype, shape=sizes)

    found = [plain("model.embed_tokens", shape.vocab_size, shape.hidden_size)]
    for layer in range(shape.num_layers):
        prefix = f"model.layers.{layer}"
        for name, rows, columns in _matrices(shape):
            found += layout.declare(f"{prefix}.{name}", rows, columns, shape.dtype)
        found += [plain(f"{prefix}.{name}", shape.hidden_size) for name in _NORMS]
    found.append(plain("model.norm", shape.hidden_size))
    if not shape.tied:
        found.append(plain("lm_head", shape.vocab_size, shape.hidden_size))
    return found


def _matrices(shape: ModelShape) -> Iterator[tuple[str, int, int]]:
    """Name, outputs and inputs of each matrix of a layer."""
    hidden, width = shape.hidden_size, shape.intermediate_size
    heads, kv_heads = (n * shape.head_dim for n in (shape.num_heads, shape.num_kv_heads))
    yield "self_attn.q_proj", heads, hidden
    yield "self_attn.k_proj", kv_heads, hidden
    yield "self_attn.v_proj", kv_heads, hidden
    yield "self_attn.o_proj", hidden, heads
    yield "mlp.gate_proj", width, hidden
    yield "mlp.up_proj", width, hidden
    yield "mlp.down_proj", hidden, width


class RandomTensors:
    """The values of declared tensors, piece by piece."""

    def __init__(self, declared: list[Declared], layout: Layout, seed: int) -> None:
        self._layout = layout
        self._seed = seed
        self._columns = {t.name: t.shape[1] for t in declared if t.name.endswith(".weight")
                         and len(t.shape) == 2}  # fmt: skip
        normal = NormalDist()
        self._quantiles = np.array(
            [normal.inv_cdf((n + 0.5) / _TABLE_SIZE) for n in range(_TABLE_SIZE)], np.float32
        )
        self._largest = float(self._quantiles[-1])

    def pieces(self, tensor: Declared) -> Pieces:
        """The values of `tensor`, in the type that is stored."""
        owner, _, kind = tensor.name.rpartition(".")
        if kind == self._layout.scale:
            columns = self._columns[f"{owner}.weight"]
            yield _filled(tensor, self._largest / E4M3_MAX * columns**-0.5)
        elif kind == self._layout.input_scale:
            yield _filled(tensor, _LARGEST_INPUT / E4M3_MAX)
        elif len(tensor.shape) == 1:
            yield _filled(tensor, 1.0)
        else:
            yield from self._matrix(tensor)

    def _matrix(self, tensor: Declared) -> Pieces:
        rng = np.random.default_rng([self._seed, zlib.crc32(tensor.name.encode())])
        table = self._table(tensor)
        rows, columns = tensor.shape
        step = max(1, _PIECE_VALUES // columns)
        for start in range(0, rows, step):
            size = (min(step, rows - start), columns)
            yield table[rng.integers(0, _TABLE_SIZE, size, dtype=np.uint16)]

    def _table(self, tensor: Declared) -> npt.NDArray[Any]:
        """What is picked from: codes up to the largest, or values of the right variance."""
        if tensor.dtype in ("I8", "F8_E4M3"):
            return e4m3_bits(self._quantiles * np.float32(E4M3_MAX / self._largest))
        return _stored(self._quantiles * np.float32(tensor.shape[1] ** -0.5), tensor.dtype)


def _filled(tensor: Declared, value: float) -> npt.NDArray[Any]:
    return _stored(np.full(tensor.shape, value, np.float32), tensor.dtype)


def _stored(values: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[Any]:
    if dtype == "BF16":
        return bf16_bits(values)
    return values.astype(np.float16) if dtype == "F16" else values
