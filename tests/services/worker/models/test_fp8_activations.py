"""Inputs rounded to FP8, in every architecture: as transformers with the same rounding, and equal
in every bit whatever else is in the batch.

A value near a tie may be rounded to either side, and moves all that comes after it: so most of many
short prompts are compared sharply, and a long one by what rounding does to it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, MistralConfig, PretrainedConfig, Qwen2Config, Qwen3Config

from services.worker.models import load_model
from tests.services.worker.models.oracle import (
    SHAPE,
    TOLERANCE,
    WIDE_HEADS,
    quantise,
    round_inputs,
    write_random,
)
from tests.services.worker.models.test_row_invariance import assert_row_invariant
from tests.services.worker.paged_sequences import PagedSequence, PagedSequences

SHORT = [[first, first * 7 % 96] for first in range(96)]
LONG = torch.arange(40)[None]
CONFIGS = {
    "llama": LlamaConfig(**SHAPE | WIDE_HEADS),
    "mistral": MistralConfig(**SHAPE, sliding_window=20),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE),
}


@pytest.mark.parametrize("input_scale", [0.01, None], ids=["static", "dynamic"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
@torch.inference_mode()
def test_logits_equal_transformers(
    tmp_path: Path, device: torch.device, config: PretrainedConfig, input_scale: float | None
) -> None:
    theirs = write_random(tmp_path, config)
    quantise(tmp_path, theirs, input_scale=input_scale)
    without = theirs(LONG).logits[0, -1]
    round_inputs(theirs, input_scale=input_scale)
    model = load_model(tmp_path, device=device, dtype=torch.float32, fp8_activations=True)
    paged = PagedSequences(model)
    given = paged.step([(PagedSequence(ids), len(ids)) for ids in SHORT]).cpu()
    expected = theirs(torch.tensor(SHORT)).logits[:, -1]
    error = (given - expected).abs().amax(-1) / expected.std(-1)
    assert (error < TOLERANCE).float().mean() > 0.9
    given = paged.step([(PagedSequence(LONG[0].tolist()), LONG.shape[1])])[0].cpu()
    expected = theirs(LONG).logits[0, -1]
    assert rms(given - expected) < rms(without - expected)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_a_row_keeps_its_bits(tmp_path: Path, config: PretrainedConfig) -> None:
    quantise(tmp_path, write_random(tmp_path, config))
    model = load_model(
        tmp_path,
        device=torch.device("cpu"),
        dtype=torch.bfloat16,
        fp8_activations=True,
        fp8_kv_cache=True,
    )
    assert_row_invariant(model, num_trials=1)


def rms(x: torch.Tensor) -> float:
    return float(x.square().mean().sqrt())
