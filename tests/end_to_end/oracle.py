"""An independent run of the default model: dequantised here, computed by transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForCausalLM


def dequantised_model(folder: Path, dtype: torch.dtype) -> Any:
    """transformers' Llama with weights of `dtype`, each e4m3 code times its scale in float32."""
    config = LlamaConfig.from_pretrained(folder)
    config._attn_implementation = "eager"
    model: Any = LlamaForCausalLM(config)
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
        state = {}
        for name in names:
            if name.endswith(("_scale", "zeros")):
                continue
            weight = file.get_tensor(name)
            if f"{name}_scale" in names:
                weight = weight.view(torch.float8_e4m3fn).float() * file.get_tensor(f"{name}_scale")
            state[name] = weight.to(dtype)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}
    model.tie_weights()
    # Cast by hand: model.to(dtype) would also round the rotary frequencies.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model.eval()
