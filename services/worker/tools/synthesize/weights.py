"""Random tensors of a checkpoint in Friendli's dialect: e4m3 bits as I8, scales as F32.

Matrices are normal with the variance 1 / inputs, so that activations keep their size through any
number of layers. Bits are picked from a table of 65,536 normal quantiles: as fast as random bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from services.worker.tools.prepare.convert import Tensors
from services.worker.tools.prepare.rounding import E4M3_MAX, bf16_bits, e4m3_bits
from services.worker.tools.synthesize.shapes import ModelShape

_TABLE_SIZE = 2**16
_LARGEST_INPUT = 8.0  # of a quantised matrix, in standard deviations: what static scales are for


def random_tensors(shape: ModelShape, seed: int) -> Tensors:
    """All tensors of the checkpoint, by name."""
    rng = np.random.default_rng(seed)
    pick = _Bits(rng)
    embeddings = rng.standard_normal((shape.vocab_size, shape.hidden_size), dtype=np.float32)
    tensors: Tensors = {
        "model.embed_tokens.weight": bf16_bits(embeddings * np.float32(shape.hidden_size**-0.5)),
        "model.norm.weight": _ones(shape.hidden_size),
    }
    for layer in range(shape.num_layers):
        prefix = f"model.layers.{layer}"
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}.{name}.weight"] = _ones(shape.hidden_size)
        for name, rows, columns in _matrices(shape):
            tensors[f"{prefix}.{name}.weight"] = pick.matrix(rows, columns)
            tensors[f"{prefix}.{name}.weight_scale"] = pick.scale(columns)
            tensors[f"{prefix}.{name}.in_scale"] = np.array(_LARGEST_INPUT / E4M3_MAX, np.float32)
    return tensors


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


class _Bits:
    """Normal values as e4m3 bits, the largest quantile as the largest e4m3."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        normal = NormalDist()
        quantiles = np.array(
            [normal.inv_cdf((n + 0.5) / _TABLE_SIZE) for n in range(_TABLE_SIZE)], np.float32
        )
        self._largest = float(quantiles[-1])
        self._table = e4m3_bits(quantiles * np.float32(E4M3_MAX / self._largest))

    def matrix(self, rows: int, columns: int) -> npt.NDArray[np.int8]:
        """The bits of a matrix [rows, columns]."""
        places = self._rng.integers(0, _TABLE_SIZE, (rows, columns), dtype=np.uint16)
        bits: npt.NDArray[np.int8] = self._table[places]
        return bits

    def scale(self, columns: int) -> npt.NDArray[np.float32]:
        """[]: what makes the variance of such a matrix 1 / columns."""
        return np.array(self._largest / E4M3_MAX * columns**-0.5, np.float32)


def _ones(size: int) -> npt.NDArray[Any]:
    return bf16_bits(np.ones(size, np.float32))
