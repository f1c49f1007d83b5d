"""The configuration files of the checkpoint, as Friendli's optimizer writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.worker.tools.prepare.convert import model_shape

# The original's model card samples with these.
_TEMPERATURE = 0.2
_TOP_P = 0.9
_FP8_KEYS = ("quantization_config", "use_fp8_e4m3")


def config_json(metadata: Mapping[str, Any], *, fp8: bool = True) -> dict[str, Any]:
    """The content of config.json; without `fp8` it names no quantisation."""
    shape = model_shape(metadata)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        **_token_ids(metadata),
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
        "head_dim": shape.head_size,
        "hidden_act": "silu",
        "hidden_size": metadata["llama.embedding_length"],
        "initializer_range": 0.041666666666666664,
        "intermediate_size": metadata["llama.feed_forward_length"],
        "max_position_embeddings": metadata["llama.context_length"],
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": shape.num_heads,
        "num_hidden_layers": metadata["llama.block_count"],
        "num_key_value_heads": shape.num_kv_heads,
        "pretraining_tp": 1,
        "quantization_config": {"activation_scheme": "static", "quant_method": "fp8"},
        "rms_norm_eps": shape.norm_epsilon,
        "rope_scaling": None,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_fp8_e4m3": True,
        "vocab_size": metadata["llama.vocab_size"],
    }
    return {key: value for key, value in config.items() if fp8 or key not in _FP8_KEYS}


def generation_config_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The content of generation_config.json.

    A text ends with <|im_end|> or, outside of a chat, with <|endoftext|>; GGUF names only one.
    """
    end_ids = [metadata["tokenizer.ggml.eos_token_id"], metadata["tokenizer.ggml.unknown_token_id"]]
    return {
        **_token_ids(metadata),
        "do_sample": True,
        "eos_token_id": end_ids,
        "temperature": _TEMPERATURE,
        "top_p": _TOP_P,
    }


def _token_ids(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "pad_token_id": metadata["tokenizer.ggml.padding_token_id"],
    }
