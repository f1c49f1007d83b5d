"""The dialects of FP8: what config.json declares of a checkpoint's matrices.

    config.json                        read by                 weights' scales       inputs
    quant_method compressed-tensors    compressed_tensors.py   tensor, channel,      static, dynamic
                                                               block                 or as they are
    quant_method modelopt, or          modelopt.py             the same              the same
      hf_quant_config.json
    use_fp8_e4m3, or quant_method fp8  fp8_method.py           the same              static, dynamic

Which of a matrix's tensors are there, and their dtypes and shapes, decides the rest
(checkpoint/matrix_source.py), because one quant_method names several layouts. To add a dialect,
write its file and name it in `choose_dialect`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.worker.checkpoint.dialects.compressed_tensors import read_compressed_tensors
from services.worker.checkpoint.dialects.dialect import Dialect, InputRule, unsupported
from services.worker.checkpoint.dialects.fp8_method import read_fp8_method
from services.worker.checkpoint.dialects.modelopt import read_modelopt


def choose_dialect(quantization: Mapping[str, Any]) -> Dialect | None:
    """By ModelConfig.quantization; None: the checkpoint is not quantised.

    Raises InvalidArgumentError for what this version does not read, naming key and value.
    """
    if not quantization:
        return None
    method = str(quantization.get("quant_method") or "").lower()
    if method == "compressed-tensors":
        return read_compressed_tensors(quantization)
    if method.startswith("modelopt"):
        return read_modelopt(quantization)
    if method == "fp8" or (method == "" and quantization.get("use_fp8_e4m3")):
        return read_fp8_method(quantization)
    raise unsupported("quant_method", quantization.get("quant_method"))


__all__ = ["Dialect", "InputRule", "choose_dialect"]
