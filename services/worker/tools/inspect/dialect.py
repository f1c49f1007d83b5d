"""What a checkpoint's matrices are stored as, in words: for a person.

What config.json declares is read by the loader's own dialects; names and shapes of tensors say the
rest. Nothing is checked that needs a tensor's values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from octavo.errors import InvalidArgumentError
from services.worker.checkpoint import dialects
from services.worker.checkpoint.tensor_names import INPUT_SCALES, WEIGHT_SCALES, kv_scale_names
from services.worker.stored_tensors import StoredTensor
from services.worker.tools.inspect.printable import printable

_CODES = ("F8_E4M3", "I8")
_KEYS = ".k_proj.weight"


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """Who wrote it, and how; None where the checkpoint has no such thing."""

    family: str  # friendli, autofp8, compressed-tensors, modelopt, deepseek, unquantised, ...
    weights: str  # F16, or "F8_E4M3, a scale for each tensor"
    inputs: str | None  # static, dynamic or in 16 bits; several with how many matrices
    kv_cache: str | None  # "scales for keys and values"
    num_quantised: int  # matrices
    refusal: str | None  # why it cannot be loaded, where config.json tells

    @property
    def words(self) -> str:
        """All of it in one line."""
        parts = [self.family, self.weights]
        parts += [f"inputs {self.inputs}"] if self.inputs else []
        parts += [self.kv_cache] if self.kv_cache else []
        return "; ".join(parts)


def describe_dialect(
    quantization: Mapping[str, Any], tensors: Mapping[str, StoredTensor]
) -> Dialect:
    """The dialect of a checkpoint with this ModelConfig.quantization."""
    declared, refusal = _declared(quantization)
    scales = {
        owner: tensor
        for name, tensor in tensors.items()
        if _last(name) in WEIGHT_SCALES and f"{(owner := _owner(name))}.weight" in tensors
    }
    matrices = {owner: tensors[f"{owner}.weight"] for owner in scales}
    codes = Counter(matrix.dtype for matrix in matrices.values() if matrix.dtype in _CODES)
    if codes:
        grains = sorted({_grain(scale, matrices[owner]) for owner, scale in scales.items()})
        weights = f"{', '.join(sorted(codes))}, a scale for each {' or '.join(grains)}"
    else:
        types = {tensor.dtype for tensor in tensors.values() if len(tensor.shape) == 2}
        weights = ", ".join(sorted(types)) or "no matrices"
    return Dialect(
        family=_family(quantization, declared, tensors, codes),
        weights=weights,
        inputs=_inputs(declared, matrices, tensors) if codes and declared else None,
        kv_cache=_kv_cache(tensors),
        num_quantised=sum(codes.values()),
        refusal=refusal,
    )


def _declared(quantization: Mapping[str, Any]) -> tuple[dialects.Dialect | None, str | None]:
    """What the loader reads of config.json, or why it refuses it."""
    try:
        return dialects.choose_dialect(quantization), None
    except InvalidArgumentError as error:
        return None, error.message


def _family(
    quantization: Mapping[str, Any],
    declared: dialects.Dialect | None,
    tensors: Mapping[str, StoredTensor],
    codes: Counter[str],
) -> str:
    """By config.json first, then by what only one writer does: "fp8" names three layouts."""
    if declared is None or not codes:
        return printable(quantization.get("quant_method") or "unquantised")
    if declared.name != "fp8":
        return declared.name
    if any(_last(name) == "weight_scale_inv" for name in tensors):
        return "deepseek"
    is_friendli = codes["I8"] or any(_last(name) == "in_scale" for name in tensors)
    return "friendli" if is_friendli else "autofp8"


def _grain(scale: StoredTensor, matrix: StoredTensor) -> str:
    """[] and [1]: one; [out] and [out, 1]: one for each output; else blocks."""
    if scale.shape in ((), (1,)):
        return "tensor"
    outputs = matrix.shape[:1]
    return "output" if scale.shape in (outputs, (*outputs, 1)) else "block"


def _inputs(
    declared: dialects.Dialect, matrices: Iterable[str], tensors: Mapping[str, StoredTensor]
) -> str:
    """One word where all matrices agree, else how many want what."""
    kinds = Counter(_input_kind(declared.input_rule(name), name, tensors) for name in matrices)
    if len(kinds) == 1:
        return next(iter(kinds))
    return ", ".join(f"{kind} ({count})" for kind, count in sorted(kinds.items()))


def _input_kind(rule: dialects.InputRule, name: str, tensors: Mapping[str, StoredTensor]) -> str:
    is_stored = any(f"{name}.{kind}" in tensors for kind in INPUT_SCALES)
    if rule.stored == "required" or (rule.stored == "optional" and is_stored):
        return "static"
    return "in 16 bits" if rule.otherwise is None else "dynamic"


def _kv_cache(tensors: Mapping[str, StoredTensor]) -> str | None:
    """Says how many layers have scales where some have none."""
    attentions = [name.removesuffix(_KEYS) for name in tensors if name.endswith(_KEYS)]
    scaled = [
        attention
        for attention in attentions
        if any(name in tensors for letter in "kv" for name in kv_scale_names(attention, letter))
    ]
    if not scaled:
        return None
    some = (
        "" if len(scaled) == len(attentions) else f" of {len(scaled)} of {len(attentions)} layers"
    )
    return f"scales for keys and values{some}"


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _owner(name: str) -> str:
    return name.rpartition(".")[0]
