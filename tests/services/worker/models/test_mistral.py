"""Mistral against transformers: windows, and heads that are wider than hidden / heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MistralConfig

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


@pytest.mark.parametrize(
    ("window", "changes"),
    [
        (1, {}),
        (16, ODD_HEADS),
        (40, TIED),
        (255, {}),
        (256, {}),
        (257, WIDE_HEADS),
        (300, {}),
        (None, {}),
        (5000, {}),
    ],
)
def test_logits_equal_transformers(
    tmp_path: Path, device: torch.device, window: int | None, changes: dict[str, Any]
) -> None:
    config = MistralConfig(**SHAPE | changes, sliding_window=window)
    # Around the edges of blocks, of the window, and of tiles of keys.
    near = [window - 1, window, window + 1] if window and 1 < window < 600 else []
    lengths = sorted({1, 15, 16, 17, 255, 256, 257, 330, *near})
    check_random(tmp_path, config, device, lengths)


def test_fp8_weights_equal_transformers(tmp_path: Path, device: torch.device) -> None:
    check_random(
        tmp_path,
        MistralConfig(**SHAPE, sliding_window=50),
        device,
        [1, 49, 50, 51, 300],
        is_fp8=True,
    )


@pytest.mark.parametrize("window", [20, 256, 290])
def test_a_row_keeps_its_bits(tmp_path: Path, window: int) -> None:
    write_random(tmp_path, MistralConfig(**SHAPE, sliding_window=window))
    assert_row_invariant(load_model(tmp_path, device=CPU, dtype=torch.bfloat16), num_trials=1)


@pytest.mark.parametrize(
    ("key", "value"), [("sliding_window", 0), ("layer_types", ["full_attention"] * 2)]
)
def test_what_cannot_be_run_is_refused_by_key(tmp_path: Path, key: str, value: object) -> None:
    names = {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
    with pytest.raises(InvalidArgumentError, match=rf"^config\.json: {key} is "):
        read_config(tiny_llama.write(tmp_path, **names | {key: value}))


@pytest.mark.parametrize(
    ("written", "window"),
    [
        ({}, None),  # 4096 is more than the context of 1024
        ({"max_position_embeddings": 8192}, MistralConfig().sliding_window),
        ({"sliding_window": 7}, 7),
        ({"sliding_window": None, "max_position_embeddings": 8192}, None),
    ],
)
def test_the_window_is_that_of_every_layer(
    tmp_path: Path, written: dict[str, Any], window: int | None
) -> None:
    changes = {"model_type": "mistral", "architectures": ["MistralForCausalLM"]} | written
    assert read_config(tiny_llama.write(tmp_path, **changes)).windows == (window, window)
