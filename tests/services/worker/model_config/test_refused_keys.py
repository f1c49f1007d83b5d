"""Keys that would change the answer are refused in every architecture; neutral values are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import InvalidArgumentError
from services.worker.model_config import ModelConfig, ModelFiles, served_model_types
from services.worker.models import read_config
from tests.services.worker.tiny_llama import CONFIG

CHANGING: list[tuple[str, object]] = [
    ("final_logit_softcapping", 30.0),
    ("attn_logit_softcapping", 50.0),
    ("clip_qkv", 8.0),
    ("logit_scale", 0.0625),
    ("logits_scaling", 16),
    ("residual_multiplier", 0.22),
    ("embedding_multiplier", 12.0),
    ("attention_multiplier", 0.0078125),
    ("query_pre_attn_scalar", 256),
    ("scale_depth", 1.4),
    ("no_rope_layers", [1, 0]),
    ("use_parallel_residual", True),
    ("hidden_activation", "gelu_pytorch_tanh"),
]
NEUTRAL: list[tuple[str, object]] = [
    *((key, None) for key, _ in CHANGING),
    ("final_logit_softcapping", 0),
    ("clip_qkv", 0.0),
    ("logit_scale", 1),
    ("residual_multiplier", 1.0),
    ("attention_multiplier", 0.25),  # 16 ** -0.5, as without the key
    ("query_pre_attn_scalar", 16),
    ("use_parallel_residual", False),
    ("hidden_activation", "silu"),
    ("pretraining_tp", 4),  # how products are cut, not what they are
]


def read(folder: Path, model_type: str, **changes: Any) -> ModelConfig:
    named = {"model_type": model_type, "architectures": None}
    (folder / "config.json").write_text(json.dumps(CONFIG | named | changes))
    return read_config(folder)


@pytest.mark.parametrize("model_type", served_model_types())
def test_what_would_change_the_answer_is_refused_by_key_and_value(
    tmp_path: Path, model_type: str
) -> None:
    for key, value in CHANGING:
        with pytest.raises(InvalidArgumentError) as caught:
            read(tmp_path, model_type, **{key: value})
        assert caught.value.message.startswith(f"config.json: {key} is {value!r}; it must be null")
        assert caught.value.metadata == {"file": "config.json", "field": key}


@pytest.mark.parametrize("model_type", served_model_types())
def test_neutral_values_change_nothing(tmp_path: Path, model_type: str) -> None:
    plain = read(tmp_path, model_type)
    for key, value in NEUTRAL:
        assert read(tmp_path, model_type, **{key: value}) == plain


def test_an_architecture_may_compute_with_them(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"logit_scale": 0.5}))
    files = ModelFiles.read(tmp_path)
    assert ModelConfig.of(files, computed_keys={"logit_scale"}).vocab_size == 96
