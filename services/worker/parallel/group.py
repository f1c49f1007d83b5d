"""The ranks that hold one model together, and the two sums and joins that they need."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.errors import UnimplementedError


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Rank `rank` of `size` ranks. A group of one sums and joins nothing."""

    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        assert 0 <= self.rank < self.size, (self.rank, self.size)
        if self.size > 1:
            raise UnimplementedError(
                f"num_devices is {self.size}; it must be 1: a model runs on one device for now.",
                reason="UNSUPPORTED_FIELD",
                metadata={"field": "num_devices", "value": str(self.size), "limit": "1"},
            )

    def all_reduce(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of every rank's `x`; the shape stays."""
        return x

    def all_gather(self, x: torch.Tensor) -> torch.Tensor:
        """Every rank's `x`, joined along the last dimension in the order of the ranks."""
        return x
