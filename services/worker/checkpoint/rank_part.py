"""A rank's part of a matrix."""

from __future__ import annotations

from dataclasses import dataclass

from services.worker.placement import Placement


@dataclass(frozen=True, kw_only=True, slots=True)
class RankPart:
    """Rows and columns of a matrix [out, in]."""

    rows: range
    columns: range

    @property
    def shape(self) -> tuple[int, int]:
        """[outputs, inputs] of the part."""
        return len(self.rows), len(self.columns)


def rank_part(
    shape: tuple[int, int], placement: Placement, *, rank: int, size: int, unit: int = 1
) -> RankPart:
    """The rank's rows (column) or columns (row) of a matrix [out, in] of this shape.

    `unit` is the number of rows or columns that must stay together (a head); units are dealt out
    in order, the first ranks taking one more where they do not divide.
    """
    rows, columns = map(range, shape)
    if placement == "column":
        rows = _dealt(shape[0], rank, size, unit)
    elif placement == "row":
        columns = _dealt(shape[1], rank, size, unit)
    return RankPart(rows=rows, columns=columns)


def _dealt(length: int, rank: int, size: int, unit: int) -> range:
    num_units, rest = divmod(length, unit)
    assert rest == 0, f"{length} is not a multiple of {unit}"
    return range(
        _first_unit(num_units, rank, size) * unit, _first_unit(num_units, rank + 1, size) * unit
    )


def _first_unit(num_units: int, rank: int, size: int) -> int:
    each, more = divmod(num_units, size)
    return rank * each + min(rank, more)
