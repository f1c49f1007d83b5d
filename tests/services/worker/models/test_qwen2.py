"""Qwen 2 against transformers: biases, and windows of some layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2Config

from octavo.errors import InvalidArgumentError
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
SLIDING = {"use_sliding_window": True, "sliding_window": 40, "max_window_layers": 1}


@pytest.mark.parametrize(
    "changes",
    [{}, ODD_HEADS, WIDE_HEADS | {"use_sliding_window": False, "sliding_window": 9}, TIED, SLIDING],
)
def test_logits_equal_transformers(
    tmp_path: Path, device: torch.device, changes: dict[str, Any]
) -> None:
    check_random(
        tmp_path, Qwen2Config(**SHAPE | changes), device, [1, 15, 16, 17, 39, 40, 41, 256, 257]
    )


def test_fp8_weights_equal_transformers(tmp_path: Path, device: torch.device) -> None:
    check_random(tmp_path, Qwen2Config(**SHAPE), device, [1, 16, 40, 300], is_fp8=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_row_keeps_its_bits(tmp_path: Path, dtype: torch.dtype) -> None:
    write_random(tmp_path, Qwen2Config(**SHAPE | SLIDING))
    assert_row_invariant(load_model(tmp_path, device=CPU, dtype=dtype), num_trials=1)


def windows(folder: Path, **changes: Any) -> tuple[int | None, ...]:
    names = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
    return read_config(tiny_llama.write(folder, **names | changes)).windows


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sliding_window": 7, "max_window_layers": 0}, (None, None)),
        ({"use_sliding_window": True, "sliding_window": 7}, (None, None)),  # from layer 28 on
        ({"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 0}, (7, 7)),
        (
            {
                "use_sliding_window": True,
                "max_window_layers": 0,
                "max_position_embeddings": 8192,
            },
            (4096, 4096),  # where the key is left out
        ),
        ({"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}, (None, 7)),
        (
            {
                "use_sliding_window": True,
                "sliding_window": 7,
                "layer_types": ["sliding_attention", "full_attention"],
            },
            (7, None),
        ),
    ],
)
def test_some_layers_have_the_window(
    tmp_path: Path, changes: dict[str, Any], expected: tuple[int | None, ...]
) -> None:
    assert windows(tmp_path, **changes) == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layer_types", ["full_attention"]),
        ("layer_types", ["full_attention", "sliding_attention"]),  # without use_sliding_window
        ("layer_types", ["full_attention", "linear_attention"]),
        ("layer_types", "full_attention"),
        ("use_sliding_window", "no"),
        ("max_window_layers", -1),
    ],
)
def test_what_cannot_be_run_is_refused_by_key(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"^config\.json: {key} is "):
        windows(tmp_path, **{key: value})
