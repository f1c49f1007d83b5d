"""config.json as published models have it: what is read of it, and the angles that come of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from services.worker.layers.rotary import frequencies
from services.worker.model_config import ModelConfig
from services.worker.models import read_config

LLAMA_31_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 128256,
}
MISTRAL_7B_V01 = {
    "architectures": ["MistralForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "mistral",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 32000,
}
MISTRAL_NEMO = MISTRAL_7B_V01 | {
    "head_dim": 128,
    "hidden_size": 5120,
    "max_position_embeddings": 1024000,
    "num_hidden_layers": 40,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "vocab_size": 131072,
}
QWEN_25_7B = {
    "architectures": ["Qwen2ForCausalLM"],
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "model_type": "qwen2",
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vocab_size": 152064,
}
QWEN_25_7B_YARN = QWEN_25_7B | {
    "rope_scaling": {
        "factor": 4.0,
        "original_max_position_embeddings": 32768,
        "type": "yarn",
    }
}
QWEN3_8B = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "max_position_embeddings": 40960,
    "max_window_layers": 36,
    "model_type": "qwen3",
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vocab_size": 151936,
}
PUBLISHED = {
    "Llama 3.1 8B": LLAMA_31_8B,
    "Mistral 7B v0.1": MISTRAL_7B_V01,
    "Mistral Nemo": MISTRAL_NEMO,
    "Qwen 2.5 7B": QWEN_25_7B,
    "Qwen 2.5 7B with YaRN": QWEN_25_7B_YARN,
    "Qwen 3 8B": QWEN3_8B,
}


def read(folder: Path, values: dict[str, Any]) -> ModelConfig:
    (folder / "config.json").write_text(json.dumps(values))
    return read_config(folder)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Llama 3.1 8B", {"max_context": 131072, "eos_ids": (128001, 128008, 128009)}),
        ("Mistral 7B v0.1", {"head_dim": 128, "windows": (4096,) * 32}),
        ("Mistral Nemo", {"head_dim": 128, "max_context": 1024000, "windows": (None,) * 40}),
        ("Qwen 2.5 7B", {"head_dim": 128, "windows": (None,) * 28, "max_context": 32768}),
        ("Qwen 2.5 7B with YaRN", {"max_context": 131072}),
        ("Qwen 3 8B", {"head_dim": 128, "biases": frozenset(), "windows": (None,) * 36}),
    ],
)
def test_they_are_read(tmp_path: Path, name: str, expected: dict[str, Any]) -> None:
    config = read(tmp_path, PUBLISHED[name])
    assert {key: getattr(config, key) for key in expected} == expected
    assert config.biases == ({"q_proj", "k_proj", "v_proj"} if "2.5" in name else set())


@pytest.mark.parametrize("name", [name for name in PUBLISHED if "rope_scaling" in PUBLISHED[name]])
def test_their_frequencies_are_transformers(tmp_path: Path, name: str) -> None:
    ours = read(tmp_path, PUBLISHED[name])
    theirs = AutoConfig.from_pretrained(tmp_path)
    kind = theirs.rope_parameters["rope_type"]
    if kind == "default":
        expected = 1e6 ** -(torch.arange(0, 128, 2).double() / 128).float()
    else:
        expected, length = ROPE_INIT_FUNCTIONS[kind](theirs, torch.device("cpu"))
        assert getattr(ours.rope.scaling, "length", 1.0) == pytest.approx(length)
    torch.testing.assert_close(frequencies(ours.rope, 128), expected, rtol=2e-6, atol=0)
