"""What can be asked for: a dialect, how inputs are rounded, and which weights share a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from octavo.errors import invalid_field
from services.worker.tools.layouts import LAYOUTS, Layout

Dialect: TypeAlias = Literal["friendli", "compressed-tensors"]
Inputs: TypeAlias = Literal["static", "dynamic"]
Weights: TypeAlias = Literal["tensor", "channel"]

# Dialect, inputs, weights: what there is a layout for.
_LAYOUTS: dict[tuple[Dialect, Inputs, Weights], str] = {
    ("friendli", "static", "tensor"): "friendli",
    ("friendli", "dynamic", "tensor"): "friendli-dynamic",
    ("friendli", "dynamic", "channel"): "friendli-channel",
    ("compressed-tensors", "static", "tensor"): "compressed-tensors",
    ("compressed-tensors", "static", "channel"): "compressed-tensors-channel-static",
    ("compressed-tensors", "dynamic", "tensor"): "compressed-tensors-dynamic",
    ("compressed-tensors", "dynamic", "channel"): "compressed-tensors-channel",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheme:
    """weights: one scale for the matrices of a group, or one for each output channel."""

    dialect: Dialect
    inputs: Inputs
    weights: Weights

    @property
    def layout(self) -> Layout:
        """How matrices are written."""
        return LAYOUTS[_LAYOUTS[self.dialect, self.inputs, self.weights]]

    @property
    def zero_points(self) -> bool:
        """Whether `zeros` stand beside a scale for each channel, as Friendli's optimizer has it."""
        return (self.dialect, self.weights) == ("friendli", "channel")


def choose_scheme(dialect: Dialect, inputs: Inputs, weights: Weights | None) -> Scheme:
    """weights None: what the dialect's own tools write with such inputs.

    Raises InvalidArgumentError for what the dialect does not have.
    """
    weights = weights or ("tensor" if inputs == "static" else "channel")
    if (dialect, inputs, weights) not in _LAYOUTS:
        limit = f"tensor with --dialect {dialect} --inputs {inputs}; compressed-tensors has both"
        raise invalid_field("--weights", weights, limit)
    return Scheme(dialect=dialect, inputs=inputs, weights=weights)
