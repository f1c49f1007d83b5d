"""RopeConfig.read: old and new keys, and what is refused by key."""

from __future__ import annotations

from typing import Any

import pytest

from octavo.errors import InvalidArgumentError
from services.worker.model_config import JsonFile, Llama3Scaling, RopeConfig, YarnScaling
from services.worker.model_config.rope import LinearScaling

LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def read(**values: Any) -> RopeConfig:
    return RopeConfig.read(JsonFile("config.json", {"max_position_embeddings": 4096} | values))


@pytest.mark.parametrize(
    ("values", "theta"),
    [
        ({}, 10000.0),
        ({"rope_theta": 5e5}, 5e5),
        ({"rope_theta": 5e5, "rope_scaling": None}, 5e5),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, 5e5),
        ({"rope_theta": 1e6, "rope_parameters": {"rope_type": "default"}}, 1e6),
        ({"rope_theta": 5e5, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, 5e5),
    ],
)
def test_what_is_not_scaled_has_a_base_alone(values: dict[str, Any], theta: float) -> None:
    assert read(**values) == RopeConfig(theta=theta)


@pytest.mark.parametrize("name", ["type", "rope_type"])
def test_old_and_new_files_say_the_same(name: str) -> None:
    expected = RopeConfig(
        theta=5e5,
        scaling=Llama3Scaling(factor=8.0, low_turns=1.0, high_turns=4.0, original_context=8192),
    )
    assert read(rope_theta=5e5, rope_scaling=LLAMA3 | {name: "llama3"}) == expected
    assert read(rope_parameters=LLAMA3 | {name: "llama3", "rope_theta": 5e5}) == expected


def test_linear_scaling_has_a_factor() -> None:
    assert read(rope_scaling={"type": "linear", "factor": 2}).scaling == LinearScaling(factor=2.0)


@pytest.mark.parametrize(
    ("values", "length"),
    [
        ({}, 1.0 + 0.1 * 1.3862943611198906),
        ({"attention_factor": 1.5}, 1.5),
        ({"mscale": 1.0, "mscale_all_dim": 1.0}, 1.0),
    ],
)
def test_yarn_lengthens_cos_and_sin(values: dict[str, float], length: float) -> None:
    scaling = read(rope_scaling={"rope_type": "yarn", "factor": 4.0} | values).scaling
    assert isinstance(scaling, YarnScaling)
    assert scaling.length == pytest.approx(length)
    assert (scaling.low_turns, scaling.high_turns, scaling.original_context) == (1.0, 32.0, 4096)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"rope_theta": -1.0}, "rope_theta"),
        ({"rope_scaling": "linear"}, "rope_scaling"),
        ({"rope_scaling": {"rope_type": "longrope", "factor": 4.0}}, "rope_scaling"),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}}, "rope_scaling"),
        ({"rope_scaling": {"rope_type": ["linear"]}}, "rope_scaling"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling.factor"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "rope_scaling.factor"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "rope_parameters.low_freq_factor"),
        (
            {"rope_scaling": LLAMA3 | {"rope_type": "llama3", "high_freq_factor": 1.0}},
            "rope_scaling.high_freq_factor",
        ),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        (
            {"rope_parameters": {"partial_rotary_factor": 0.5}},
            "rope_parameters.partial_rotary_factor",
        ),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "rope_parameters"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4, "rope_theta": 1}}, "rope_param"),
    ],
)
def test_what_cannot_be_run_is_refused_by_key(values: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"^config\.json: {key}") as caught:
        read(**values)
    assert caught.value.metadata["field"].startswith(key)
