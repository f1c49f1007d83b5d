"""quant_method "modelopt", or hf_quant_config.json beside config.json: NVIDIA's ModelOpt.

    quant_algo                   weight_scale                        inputs
    FP8                          []                                  input_scale []
    FP8_PER_CHANNEL_PER_TOKEN    [out]                               dynamic, per token
    FP8_PB_WO                    [ceil(out / 128), 1, ceil(in / 128), 1]   as they are

Excluded modules are patterns with wildcards (fnmatch).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from services.worker.checkpoint.dialects.dialect import (
    AS_THEY_ARE,
    DYNAMIC,
    STATIC,
    Dialect,
    InputRule,
    unsupported,
)

_RULES = {"FP8": STATIC, "FP8_PER_CHANNEL_PER_TOKEN": DYNAMIC, "FP8_PB_WO": AS_THEY_ARE}
_BLOCK = (128, 128)


def read_modelopt(quantization: Mapping[str, Any]) -> Dialect:
    """Raises InvalidArgumentError for another algorithm (NVFP4, INT4_AWQ, MIXED_PRECISION, ...)."""
    algorithm = quantization.get("quant_algo")
    rule = _RULES.get(str(algorithm).upper())
    if rule is None:
        raise unsupported("quant_algo", algorithm)
    _check_kv_cache(quantization)
    excluded = _excluded(quantization)

    def input_rule(matrix: str) -> InputRule:
        is_excluded = any(fnmatch.fnmatchcase(matrix, pattern) for pattern in excluded)
        return AS_THEY_ARE if is_excluded else rule

    return Dialect(
        name="modelopt",
        block=_BLOCK if rule is AS_THEY_ARE else None,
        bits_in_int8=True,  # older exporters
        input_rule=input_rule,
    )


def _check_kv_cache(quantization: Mapping[str, Any]) -> None:
    algorithm = quantization.get("kv_cache_quant_algo")
    if algorithm is not None and str(algorithm).upper() != "FP8":
        raise unsupported("kv_cache_quant_algo", algorithm)
    scheme = quantization.get("kv_cache_scheme")
    if scheme is None:
        return
    if not isinstance(scheme, dict) or (scheme.get("type"), scheme.get("num_bits")) != ("float", 8):
        raise unsupported("kv_cache_scheme", scheme)


def _excluded(quantization: Mapping[str, Any]) -> list[str]:
    """Under the newer name of config.json, or that of hf_quant_config.json."""
    for key in ("ignore", "exclude_modules"):
        patterns = quantization.get(key)
        if patterns is None:
            continue
        if not isinstance(patterns, list) or not all(isinstance(each, str) for each in patterns):
            raise unsupported(key, patterns)
        return patterns
    return []
