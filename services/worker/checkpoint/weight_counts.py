"""What was met while the weights of a model were read, for those who wonder what a flag did."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(kw_only=True, slots=True)
class WeightCounts:
    """Counted by Weights."""

    matrices_rounded: int = 0  # from 16 bits to FP8, as they were loaded
    matrices_with_inputs: int = 0  # in FP8, that say how their inputs are rounded
    without_kv_scales: set[str] = field(default_factory=set)  # attentions
