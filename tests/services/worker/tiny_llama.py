"""Tiny random Llamas made on the spot, and the config.json of one as plain values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "hidden_act": "silu",
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def tensors(config: dict[str, Any], seed: int = 0) -> dict[str, torch.Tensor]:
    """The weights of a random model, in the configuration's dtype, by their names."""
    generator = torch.Generator().manual_seed(seed)
    dtype = getattr(torch, config["torch_dtype"])
    hidden, width = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"] * config["head_dim"]
    kv_heads = config["num_key_value_heads"] * config["head_dim"]

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return (torch.randn(rows, columns, generator=generator) * 0.15).to(dtype)

    def norm() -> torch.Tensor:
        return (1 + 0.2 * torch.randn(hidden, generator=generator)).to(dtype)

    result = {"model.embed_tokens.weight": matrix(config["vocab_size"], hidden)}
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        result |= {
            f"{layer}.self_attn.q_proj.weight": matrix(heads, hidden),
            f"{layer}.self_attn.k_proj.weight": matrix(kv_heads, hidden),
            f"{layer}.self_attn.v_proj.weight": matrix(kv_heads, hidden),
            f"{layer}.self_attn.o_proj.weight": matrix(hidden, heads),
            f"{layer}.mlp.gate_proj.weight": matrix(width, hidden),
            f"{layer}.mlp.up_proj.weight": matrix(width, hidden),
            f"{layer}.mlp.down_proj.weight": matrix(hidden, width),
            f"{layer}.input_layernorm.weight": norm(),
            f"{layer}.post_attention_layernorm.weight": norm(),
        }
    result["model.norm.weight"] = norm()
    if not config["tie_word_embeddings"]:
        result["lm_head.weight"] = matrix(config["vocab_size"], hidden)
    return result


def write(folder: Path, **changes: Any) -> Path:
    """Writes a checkpoint of one file; `changes` are made to CONFIG."""
    config = CONFIG | changes
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors(config), folder / "model.safetensors")
    return folder


def write_sharded(folder: Path) -> Path:
    """Writes the same checkpoint as `write`, in two files with an index."""
    (folder / "config.json").write_text(json.dumps(CONFIG))
    named = sorted(tensors(CONFIG).items())
    halves = {"model-1.safetensors": named[::2], "model-2.safetensors": named[1::2]}
    for file, part in halves.items():
        save_file(dict(part), folder / file)
    weight_map = {name: file for file, part in halves.items() for name, _ in part}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder
