"""Qwen 3 against transformers: norms of heads, windows by layer_types, biases where asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3Config

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

CPU = torch.device("cpu")
SLIDING = {
    "use_sliding_window": True,
    "sliding_window": 40,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}


@pytest.mark.parametrize(
    "changes", [{}, ODD_HEADS | {"attention_bias": True}, WIDE_HEADS, TIED, SLIDING]
)
def test_logits_equal_transformers(
    tmp_path: Path, device: torch.device, changes: dict[str, Any]
) -> None:
    check_random(
        tmp_path, Qwen3Config(**SHAPE | changes), device, [1, 15, 16, 17, 39, 40, 41, 256, 257]
    )


def test_fp8_weights_equal_transformers(tmp_path: Path, device: torch.device) -> None:
    check_random(tmp_path, Qwen3Config(**SHAPE), device, [1, 16, 40, 300], is_fp8=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_row_keeps_its_bits(tmp_path: Path, dtype: torch.dtype) -> None:
    write_random(tmp_path, Qwen3Config(**SHAPE | SLIDING))
    assert_row_invariant(load_model(tmp_path, device=CPU, dtype=dtype), num_trials=1)


def test_a_head_has_128_elements_where_nothing_is_said(tmp_path: Path) -> None:
    config = tiny_llama.CONFIG | {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}
    del config["head_dim"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_config(tmp_path).head_dim == 128
