"""Rotary embeddings: their base, and how they are scaled for contexts longer than training's.

Newer files hold all of it in `rope_parameters`, older ones have `rope_theta` beside the other keys
and `rope_scaling` for what is scaled. The types are those of Hugging Face's transformers:

    default   nothing is scaled
    linear    all frequencies divided by `factor`
    dynamic   as default up to max_position_embeddings, which no context of ours passes
    llama3    low frequencies divided by `factor`, high ones kept (Llama 3.1)
    yarn      the same with a ramp between, and longer cos and sin (Peng et al. 2023)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from services.worker.model_config.json_file import JsonFile


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearScaling:
    """Every frequency is divided by `factor`."""

    factor: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Llama3Scaling:
    """Frequencies that turn less than `low_turns` times in `original_context` tokens are divided by
    `factor`, those that turn more than `high_turns` times are kept; between, a mean of both.
    """

    factor: float
    low_turns: float
    high_turns: float
    original_context: int


@dataclass(frozen=True, kw_only=True, slots=True)
class YarnScaling:
    """As Llama3Scaling, with a ramp over the frequencies' indices, from the one that turns
    `high_turns` times to the one that turns `low_turns` times; `whole`: rounded outwards.

    `length` is what cos and sin are multiplied by.
    """

    factor: float
    low_turns: float
    high_turns: float
    original_context: int
    whole: bool
    length: float


_TYPES = ("default", "linear", "dynamic", "llama3", "yarn")

Scaling: TypeAlias = LinearScaling | Llama3Scaling | YarnScaling


@dataclass(frozen=True, kw_only=True, slots=True)
class RopeConfig:
    """Frequency i is theta^(-2i / head_dim), then scaled."""

    theta: float
    scaling: Scaling | None = None

    @classmethod
    def read(cls, config: JsonFile) -> RopeConfig:
        """Raises InvalidArgumentError, naming the key, for a type that is not known."""
        if config.values.get("partial_rotary_factor") not in (None, 1.0):
            raise config.error("partial_rotary_factor", "1")
        key, rope = "rope_scaling", config.part("rope_scaling")
        if rope is None:
            key, rope = "rope_parameters", config.part("rope_parameters")
        if rope is None:
            return cls(theta=config.number("rope_theta", default=10000.0))
        if any(isinstance(value, dict) for value in rope.values.values()):
            raise config.error(key, "one object for all layers")
        if rope.values.get("partial_rotary_factor") not in (None, 1.0):
            raise rope.error("partial_rotary_factor", "1")
        kind = rope.values.get("rope_type", rope.values.get("type", "default"))
        if kind not in _TYPES:
            known = ", ".join(map(repr, _TYPES))
            raise config.error(key, f"of a type among {known}: {kind!r:.40} is not supported")
        holder = rope if rope.values.get("rope_theta") is not None else config
        theta = holder.number("rope_theta", default=10000.0)
        if theta <= 1:
            raise holder.error("rope_theta", "above 1")
        return cls(theta=theta, scaling=_scaling(kind, rope, _original_context(config, rope)))


def _original_context(config: JsonFile, rope: JsonFile) -> int:
    """Tokens that the model was trained with before it was scaled."""
    key = "original_max_position_embeddings"
    holder = rope if config.values.get(key) is None else config
    return holder.positive(key, default=config.positive("max_position_embeddings"))


def _scaling(kind: str, rope: JsonFile, original_context: int) -> Scaling | None:
    if kind == "linear":
        return LinearScaling(factor=rope.number("factor"))
    if kind == "llama3":
        return _llama3(rope, original_context)
    return _yarn(rope, original_context) if kind == "yarn" else None


def _llama3(rope: JsonFile, original_context: int) -> Llama3Scaling:
    low_turns, high_turns = rope.number("low_freq_factor"), rope.number("high_freq_factor")
    if high_turns <= low_turns:
        raise rope.error("high_freq_factor", f"above low_freq_factor, {low_turns}")
    return Llama3Scaling(
        factor=rope.number("factor"),
        low_turns=low_turns,
        high_turns=high_turns,
        original_context=original_context,
    )


def _yarn(rope: JsonFile, original_context: int) -> YarnScaling:
    factor = rope.number("factor")
    return YarnScaling(
        factor=factor,
        low_turns=rope.number("beta_slow", default=1.0),
        high_turns=rope.number("beta_fast", default=32.0),
        original_context=original_context,
        whole=rope.flag("truncate", default=True),
        length=rope.number("attention_factor", default=_yarn_length(rope, factor)),
    )


def _yarn_length(rope: JsonFile, factor: float) -> float:
    """1 + 0.1 ln(factor) (Peng et al. 2023, section 3.4); the ratio of two where both are named."""

    def length(weight: float) -> float:
        return 1.0 + 0.1 * weight * math.log(factor) if factor > 1 else 1.0

    if rope.values.get("mscale") and rope.values.get("mscale_all_dim"):
        return length(rope.number("mscale")) / length(rope.number("mscale_all_dim"))
    return length(1.0)
