"""What a checkpoint's matrices are stored as, in words: for a person, by names, types and shapes.

The loader decides for itself (checkpoint/); this is what it will find.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from services.worker.stored_tensors import StoredTensor

_CODES = ("F8_E4M3", "I8")
_WEIGHT_SCALES = ("weight_scale", "weight_scale_inv")
_INPUT_SCALES = ("in_scale", "input_scale", "act_scale")
_KV_SCALES = ("k_scale", "v_scale", "kv_scale")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """Who wrote it, and how; None where the checkpoint has no such thing."""

    family: str  # friendli, autofp8, compressed-tensors, modelopt, deepseek, unquantised, ...
    weights: str  # F16, or "F8_E4M3, a scale for each tensor"
    inputs: str | None  # static, dynamic, or in 16 bits
    kv_cache: str | None  # "scales for keys and values"
    num_quantised: int  # matrices

    @property
    def words(self) -> str:
        """All of it in one line."""
        parts = [self.family, self.weights]
        parts += [f"inputs {self.inputs}"] if self.inputs else []
        parts += [self.kv_cache] if self.kv_cache else []
        return "; ".join(parts)


def describe_dialect(config: Mapping[str, Any], tensors: Iterable[StoredTensor]) -> Dialect:
    """The dialect of a checkpoint with this config.json, hf_quant_config.json merged into it."""
    by_name = {tensor.name: tensor for tensor in tensors}
    scales = [
        tensor
        for name, tensor in by_name.items()
        if _last(name) in _WEIGHT_SCALES and f"{_owner(name)}.weight" in by_name
    ]
    matrices = [by_name[f"{_owner(scale.name)}.weight"] for scale in scales]
    codes = Counter(matrix.dtype for matrix in matrices if matrix.dtype in _CODES)
    has_input_scales = any(_last(name) in _INPUT_SCALES for name in by_name)
    kv = "scales for keys and values" if any(_last(n) in _KV_SCALES for n in by_name) else None
    if not codes:
        types = Counter(t.dtype for name, t in by_name.items() if len(t.shape) == 2)
        stored = ", ".join(sorted(types)) or "no matrices"
        family = "unquantised" if not _method(config) else _method(config)
        return Dialect(family=family, weights=stored, inputs=None, kv_cache=kv, num_quantised=0)
    grains = sorted({_grain(scale, by_name) for scale in scales})
    return Dialect(
        family=_family(config, by_name, codes),
        weights=f"{', '.join(sorted(codes))}, a scale for each {' or '.join(grains)}",
        inputs="static" if has_input_scales else _inputs_without_scales(config),
        kv_cache=kv,
        num_quantised=sum(codes.values()),
    )


def _method(config: Mapping[str, Any]) -> str:
    quantization = config.get("quantization_config") or config.get("compression_config") or {}
    return str(quantization.get("quant_method") or "")


def _family(
    config: Mapping[str, Any], tensors: Mapping[str, StoredTensor], codes: Counter[str]
) -> str:
    """By config.json first, then by what only one writer does: "fp8" names two layouts."""
    method = _method(config)
    if method not in ("", "fp8"):
        return method
    if any(_last(name) == "weight_scale_inv" for name in tensors):
        return "deepseek"
    if config.get("use_fp8_e4m3") or codes["I8"] or any(_last(n) == "in_scale" for n in tensors):
        return "friendli"
    if "quantization" in config:  # of hf_quant_config.json
        return "modelopt"
    return "autofp8"


def _grain(scale: StoredTensor, tensors: Mapping[str, StoredTensor]) -> str:
    """[] and [1]: one; [out] and [out, 1]: one for each output; else blocks."""
    if scale.shape in ((), (1,)):
        return "tensor"
    outputs = tensors[f"{_owner(scale.name)}.weight"].shape[0]
    return "output" if scale.shape in ((outputs,), (outputs, 1)) else "block"


def _inputs_without_scales(config: Mapping[str, Any]) -> str:
    """What config.json says of inputs: rounded as they come, or left as they are."""
    quantization = config.get("quantization_config") or {}
    groups = (quantization.get("config_groups") or {}).values()
    algorithm = str((config.get("quantization") or quantization).get("quant_algo"))
    if any(group.get("input_activations") is None for group in groups) or algorithm.endswith("_wo"):
        return "in 16 bits"
    return "dynamic"


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _owner(name: str) -> str:
    return name.rpartition(".")[0]
