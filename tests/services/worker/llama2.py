"""The three sizes of Llama 2 by their config.json, and the tensors of their FP8 checkpoints.

Sizes and byte counts are those of the published checkpoints; the tensors are those of Friendli's
dialect: I8 matrices with two scales each, everything else in F16.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from services.worker.stored_tensors import ITEM_BYTES, StoredTensor


def config_json(size: str) -> dict[str, Any]:
    """config.json of "7b", "13b" or "70b"."""
    hidden, intermediate, layers, heads, kv_heads = {
        "7b": (4096, 11008, 32, 32, 32),
        "13b": (5120, 13824, 40, 40, 40),
        "70b": (8192, 28672, 80, 64, 8),
    }[size]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 32000,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "tie_word_embeddings": False,
        "pretraining_tp": 1,
        "torch_dtype": "float16",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "use_fp8_e4m3": True,
    }


def tensors(size: str) -> Iterator[StoredTensor]:
    """The tensors of the FP8 checkpoint, by their headers."""
    values = config_json(size)
    hidden, width = values["hidden_size"], values["intermediate_size"]
    kv_width = hidden // values["num_attention_heads"] * values["num_key_value_heads"]
    matrices = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (kv_width, hidden),
        "self_attn.v_proj": (kv_width, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (width, hidden),
        "mlp.up_proj": (width, hidden),
        "mlp.down_proj": (hidden, width),
    }
    for name in ("model.embed_tokens", "lm_head"):
        yield _tensor(f"{name}.weight", "F16", values["vocab_size"], hidden)
    yield _tensor("model.norm.weight", "F16", hidden)
    for layer in range(values["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        for name, shape in matrices.items():
            yield _tensor(f"{prefix}.{name}.weight", "I8", *shape)
            yield _tensor(f"{prefix}.{name}.weight_scale", "F32")
            yield _tensor(f"{prefix}.{name}.in_scale", "F32")
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield _tensor(f"{prefix}.{name}.weight", "F16", hidden)


def _tensor(name: str, dtype: str, *shape: int) -> StoredTensor:
    return declared(name, dtype, shape)


def declared(name: str, dtype: str, shape: tuple[int, ...]) -> StoredTensor:
    """A tensor of a file that is not there."""
    num_bytes = math.prod(shape) * ITEM_BYTES[dtype]
    return StoredTensor(name=name, file="", dtype=dtype, shape=shape, start=0, num_bytes=num_bytes)
