"""quant_method "fp8", and Friendli's mark "use_fp8_e4m3": three families that share a name.

family           weight                 its scale                       its inputs' scale
Friendli         I8 holding e4m3 bits   weight_scale: [], or [out, 1]   in_scale []; or dynamic
AutoFP8, vLLM    F8_E4M3                weight_scale []                 input_scale or act_scale
                                                                        []; or dynamic
DeepSeek         F8_E4M3                weight_scale_inv, in blocks     dynamic, per token and
                                                                        block of columns
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.worker.checkpoint.dialects.dialect import (
    DYNAMIC,
    STATIC,
    STATIC_IF_STORED,
    Dialect,
    InputRule,
    read_block,
    unsupported,
)
from services.worker.input_scheme import InputScheme

_RULES = {"static": STATIC, "dynamic": DYNAMIC, None: STATIC_IF_STORED}


def read_fp8_method(quantization: Mapping[str, Any]) -> Dialect:
    """Raises InvalidArgumentError for another format than e4m3, or unknown scales or schemes."""
    if quantization.get("fmt", "e4m3") not in ("e4m3", "e4m3fn", "float8_e4m3fn"):
        raise unsupported("fmt", quantization["fmt"])
    if quantization.get("scale_fmt") not in (None, "float", "float32"):
        raise unsupported("scale_fmt", quantization["scale_fmt"])  # inputs' scales: powers of two
    if quantization.get("kv_cache_scheme") not in (None, "static"):
        raise unsupported("kv_cache_scheme", quantization["kv_cache_scheme"])
    key = "scheme" if "scheme" in quantization else "activation_scheme"  # the older name first
    scheme = quantization.get(key)
    if not isinstance(scheme, str | None) or scheme not in _RULES:
        raise unsupported(key, scheme)
    block = None
    if quantization.get("weight_block_size") is not None:
        block = read_block("weight_block_size", quantization["weight_block_size"])
        if scheme == "static":
            raise unsupported(key, scheme)
    rule = _RULES[scheme] if block is None else _dynamic_in_groups(block[1])
    return Dialect(
        name="friendli" if quantization.get("use_fp8_e4m3") else "fp8",
        block=block,
        bits_in_int8=True,
        input_rule=lambda _: rule,
    )


def _dynamic_in_groups(group: int) -> InputRule:
    return InputRule(stored="absent", otherwise=InputScheme(group=group))
