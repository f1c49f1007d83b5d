"""How each family of checkpoints writes a matrix: names, types, shapes, its part of config.json.

For tools that write checkpoints; docs/fp8.md says what is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from services.worker.tools.shards import Declared

Grain = Literal["tensor", "channel", "block"]

BLOCK = 128  # rows and columns of a block


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """One way to write matrices [out, in]. Types are safetensors' names; "" is the model's own."""

    codes: str  # type of the matrix; "" is not quantised
    grain: Grain = "tensor"
    scale: str = "weight_scale"
    scale_type: str = "F32"
    one_scale: tuple[int, ...] = ()  # the shape of a single scale: () or (1,)
    input_scale: str | None = None  # None: inputs are scaled as they come
    config: Mapping[str, Any] = field(default_factory=dict)  # goes into config.json
    quant_file: Mapping[str, Any] | None = None  # the content of hf_quant_config.json

    @property
    def is_quantised(self) -> bool:
        """Whether matrices are e4m3 codes with scales."""
        return bool(self.codes)

    def scale_shape(self, rows: int, columns: int) -> tuple[int, ...]:
        """The shape of the scales of a matrix [rows, columns]."""
        if self.grain == "tensor":
            return self.one_scale
        if self.grain == "channel":
            return (rows, 1)
        return (-(-rows // BLOCK), -(-columns // BLOCK))

    def declare(self, name: str, rows: int, columns: int, model_type: str) -> list[Declared]:
        """The tensors of the matrix `name`; `model_type` is the type of what is not quantised."""
        found = [
            Declared(name=f"{name}.weight", dtype=self.codes or model_type, shape=(rows, columns))
        ]
        if self.is_quantised:
            shape = self.scale_shape(rows, columns)
            dtype = self.scale_type or model_type
            found.append(Declared(name=f"{name}.{self.scale}", dtype=dtype, shape=shape))
            if self.input_scale:
                found.append(
                    Declared(name=f"{name}.{self.input_scale}", dtype=dtype, shape=self.one_scale)
                )
        return found


def _compressed(weights: dict[str, Any], inputs: dict[str, Any] | None) -> dict[str, Any]:
    """The quantization_config of compressed-tensors."""
    number = {"num_bits": 8, "type": "float", "symmetric": True}
    group = {
        "targets": ["Linear"],
        "weights": {**number, "dynamic": False, **weights},
        "input_activations": None if inputs is None else {**number, **inputs},
        "output_activations": None,
    }
    return {
        "quantization_config": {
            "quant_method": "compressed-tensors",
            "format": "float-quantized",
            "quantization_status": "compressed",
            "config_groups": {"group_0": group},
            "ignore": ["lm_head"],
            "kv_cache_scheme": None,
        }
    }


def _fp8(scheme: str, **more: Any) -> dict[str, Any]:
    return {"quantization_config": {"quant_method": "fp8", "activation_scheme": scheme, **more}}


LAYOUTS = {
    "none": Layout(codes=""),
    "friendli": Layout(
        codes="I8", input_scale="in_scale", config={"use_fp8_e4m3": True, **_fp8("static")}
    ),
    "friendli-dynamic": Layout(codes="I8", config={"use_fp8_e4m3": True, **_fp8("dynamic")}),
    "friendli-channel": Layout(
        codes="I8", grain="channel", scale_type="F16", config=_fp8("dynamic")
    ),
    "autofp8": Layout(codes="F8_E4M3", input_scale="input_scale", config=_fp8("static")),
    "autofp8-dynamic": Layout(codes="F8_E4M3", config=_fp8("dynamic")),
    "compressed-tensors": Layout(
        codes="F8_E4M3",
        scale_type="",
        one_scale=(1,),
        input_scale="input_scale",
        config=_compressed({"strategy": "tensor"}, {"strategy": "tensor", "dynamic": False}),
    ),
    "compressed-tensors-dynamic": Layout(
        codes="F8_E4M3",
        scale_type="",
        one_scale=(1,),
        config=_compressed({"strategy": "tensor"}, {"strategy": "token", "dynamic": True}),
    ),
    "compressed-tensors-channel": Layout(
        codes="F8_E4M3",
        grain="channel",
        scale_type="",
        config=_compressed({"strategy": "channel"}, {"strategy": "token", "dynamic": True}),
    ),
    "compressed-tensors-channel-static": Layout(
        codes="F8_E4M3",
        grain="channel",
        scale_type="",
        one_scale=(1,),
        input_scale="input_scale",
        config=_compressed({"strategy": "channel"}, {"strategy": "tensor", "dynamic": False}),
    ),
    "compressed-tensors-block": Layout(
        codes="F8_E4M3",
        grain="block",
        scale_type="",
        config=_compressed(
            {"strategy": "block", "block_structure": [BLOCK, BLOCK]},
            {"strategy": "group", "group_size": BLOCK, "dynamic": True},
        ),
    ),
    "modelopt": Layout(
        codes="F8_E4M3",
        input_scale="input_scale",
        config={"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}},
        quant_file={
            "producer": {"name": "modelopt"},
            "quantization": {
                "quant_algo": "FP8",
                "kv_cache_quant_algo": None,
                "exclude_modules": ["lm_head"],
            },
        },
    ),
    "deepseek": Layout(
        codes="F8_E4M3",
        grain="block",
        scale="weight_scale_inv",
        config=_fp8("dynamic", fmt="e4m3", weight_block_size=[BLOCK, BLOCK]),
    ),
}
