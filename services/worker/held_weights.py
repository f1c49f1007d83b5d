"""What the tensors of a checkpoint take once they are loaded, by what holds them.

                      an FP8 matrix      another matrix     a tied head
    compiled kernels  1 byte a weight    2                  a copy of the embedding table
    reference         as activations     as activations     the same
    None, a GPU       as stored          as stored          the table itself

Norms are float32. A rank's own buffers, the KV cache and tables of angles are not counted.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from services.worker.cpu_library.choice import can_compute, find_library
from services.worker.model_config import ModelConfig
from services.worker.stored_tensors import StoredTensor

_CODES = ("F8_E4M3", "I8")
_FLOAT32_BYTES = 4
_TABLE, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_OUTPUTS, _INPUTS = 16, 4  # of a block of the compiled kernels: kernels/cpu/native/linear.h


@dataclass(frozen=True, kw_only=True, slots=True)
class NumericChoices:
    """What an operator chose of a worker's numbers, as RankConfig has it."""

    dtype: str = "auto"
    kernels: str = "auto"
    fp8_weights: bool = False
    fp8_kv_cache: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldForm:
    """Bytes of an element, by the kind of its matrix."""

    fp8: int
    plain: int
    table: int  # of the embeddings
    is_packed: bool  # outputs and inputs padded, and a float32 scale for each output
    layers_are_fp8: bool = False  # also those that are stored in 16 bits

    def bytes_of(self, tensor: StoredTensor) -> int:
        """What the tensor takes; scales belong to their matrix, and take nothing themselves."""
        if not tensor.name.endswith((".weight", ".bias")):
            return 0
        if len(tensor.shape) != 2:
            return math.prod(tensor.shape) * _FLOAT32_BYTES
        if tensor.name == _TABLE:
            return math.prod(tensor.shape) * self.table
        return self._matrix_bytes(tensor)

    def _matrix_bytes(self, tensor: StoredTensor) -> int:
        rounded = self.layers_are_fp8 and ".layers." in tensor.name
        is_fp8 = rounded or tensor.dtype in _CODES
        width = self.fp8 if is_fp8 else self.plain
        outputs, inputs = tensor.shape
        if not self.is_packed:
            return outputs * inputs * width
        outputs, inputs = -(-outputs // _OUTPUTS) * _OUTPUTS, -(-inputs // _INPUTS) * _INPUTS
        return outputs * (inputs * width + (_FLOAT32_BYTES if is_fp8 else 0))


def held_on_cpu(config: ModelConfig, choices: NumericChoices) -> HeldForm:
    """What the backend holds that `choose_kernels` takes for this model on this machine's CPU."""
    dtype = config.default_dtype(on_cpu=True) if choices.dtype == "auto" else choices.dtype
    computed = can_compute(
        dtype,
        head_dim=config.head_dim,
        fp8_kv_cache=choices.fp8_kv_cache,
    )
    named = None if choices.kernels == "auto" else choices.kernels
    if choices.kernels != "reference" and computed and find_library(named) is not None:
        return HeldForm(fp8=1, plain=2, table=2, is_packed=True, layers_are_fp8=choices.fp8_weights)
    # CPUs multiply float16 in float32 (kernels/row_tiles.py).
    width = 2 if dtype == "bfloat16" else 4
    table = 4 if dtype == "float32" else 2
    return HeldForm(fp8=width, plain=width, table=table, is_packed=False)


def held_tensors(
    config: ModelConfig, tensors: Iterable[StoredTensor], form: HeldForm | None
) -> Iterator[tuple[StoredTensor, int]]:
    """What is held, and the bytes that each takes; `form` None: what is stored, as it is stored."""
    for tensor in tensors:
        if form is None:
            yield tensor, tensor.num_bytes
        elif tensor.name != _HEAD or not config.tie_word_embeddings:
            yield tensor, form.bytes_of(tensor)
        if form is not None and tensor.name == _TABLE and config.tie_word_embeddings:
            head = dataclasses.replace(tensor, name=_HEAD)
            yield head, form.bytes_of(head)
