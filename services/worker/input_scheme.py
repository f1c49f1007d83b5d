"""How the inputs of a matrix in FP8 are rounded. No torch: dialects need none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class InputScheme:
    """How the inputs [T, in] of a matrix become e4m3, in a worker that multiplies in FP8.

    static_scale: the checkpoint's, for all inputs; what is past 448 times it saturates. None:
    dynamic, the largest magnitude / 448 of each token over `group` channels (None: all of them).
    """

    static_scale: float | None = None
    group: int | None = None

    def __post_init__(self) -> None:
        assert self.static_scale is None or self.group is None
