"""Llama against transformers; test_golden.py compares it with goldens made elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from services.worker.models import load_model, read_config
from tests.services.worker import tiny_llama
from tests.services.worker.models.oracle import (
    ODD_HEADS,
    SHAPE,
    TIED,
    WIDE_HEADS,
    check_random,
    write_random,
)
from tests.services.worker.models.test_row_invariance import assert_row_invariant
from tests.services.worker.paged_sequences import PagedSequences


def oracle_of(folder: Path) -> LlamaForCausalLM:
    """Transformers' Llama in float32 with the tensors of `folder`, which is not quantised."""
    config = json.loads((folder / "config.json").read_text())
    oracle = LlamaForCausalLM(LlamaConfig(**config | {"torch_dtype": "float32"})).float().eval()
    state = {name: tensor.float() for name, tensor in tiny_llama.tensors(config).items()}
    missing, unexpected = oracle.load_state_dict(state, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}  # tied
    oracle.tie_weights()
    return oracle


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": True, "torch_dtype": "float16"},
        {"num_key_value_heads": 6, "rope_theta": 500000.0},
        {"num_key_value_heads": 1, "torch_dtype": "float32"},
    ],
    ids=["bf16", "f16 tied", "one query head per KV head", "f32 one KV head"],
)
@torch.inference_mode()
def test_unquantised_checkpoints_equal_transformers(
    tmp_path: Path, changes: dict[str, Any], device: torch.device
) -> None:
    folder = tiny_llama.write(tmp_path, **changes)
    oracle = oracle_of(folder)
    sequences = PagedSequences(load_model(folder, device=device, dtype=torch.float32))
    for num_prompt in (1, 7, 40, 300):
        ids = torch.arange(num_prompt) * 7 % 96
        logits, made = sequences.greedy(ids.tolist(), 12)
        for token in [None, *made[:-1]]:
            ids = ids if token is None else torch.cat((ids, torch.tensor([token])))
        expected = oracle(ids[None]).logits[0]
        assert (logits.cpu() - expected[num_prompt - 1]).abs().max() < 1e-4
        assert made == expected[num_prompt - 1 :].argmax(-1).tolist()


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_parameters": LLAMA3},
        WIDE_HEADS | {"rope_parameters": YARN | {"original_max_position_embeddings": 256}},
        {"rope_parameters": YARN | {"truncate": False, "attention_factor": 1.3, "beta_fast": 8}},
        ODD_HEADS | {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
        TIED | {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}},
        {"attention_bias": True, "mlp_bias": True},
        {"mlp_bias": True},
    ],
    ids=["llama3", "yarn", "yarn with its own numbers", "linear", "dynamic", "biases", "mlp bias"],
)
def test_scaled_embeddings_and_biases_equal_transformers(
    tmp_path: Path, changes: dict[str, Any], device: torch.device
) -> None:
    check_random(
        tmp_path, LlamaConfig(**SHAPE | changes), device, [1, 15, 16, 17, 130, 255, 256, 257, 330]
    )


def test_fp8_weights_equal_transformers(tmp_path: Path, device: torch.device) -> None:
    check_random(tmp_path, LlamaConfig(**SHAPE), device, [1, 16, 40, 300], is_fp8=True)


def test_a_row_keeps_its_bits_with_biases(tmp_path: Path) -> None:
    write_random(tmp_path, LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True))
    model = load_model(tmp_path, device=torch.device("cpu"), dtype=torch.bfloat16)
    assert_row_invariant(model, num_trials=1)


def test_yarn_extends_the_context(tmp_path: Path) -> None:
    scaling = YARN | {"original_max_position_embeddings": 1024}
    assert read_config(tiny_llama.write(tmp_path, rope_scaling=scaling)).max_context == 4096


def test_a_sharded_checkpoint_is_the_same_model(tmp_path: Path, device: torch.device) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    results = [
        PagedSequences(load_model(folder, device=device, dtype=None)).greedy([5, 6, 7], 8)
        for folder in (
            tiny_llama.write(tmp_path / "one"),
            tiny_llama.write_sharded(tmp_path / "two"),
        )
    ]
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
