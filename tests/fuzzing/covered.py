"""Which code of a folder has run, branch by branch."""

from __future__ import annotations

import io
from dataclasses import dataclass

import coverage


@dataclass
class Covered:
    """Starts before the code is imported. The percentage is of the first two `places`."""

    measurement: coverage.Coverage
    places: tuple[str, ...]

    @classmethod
    def start(cls, *places: str) -> Covered:
        measurement = coverage.Coverage(
            data_file=None, branch=True, config_file=False, include=list(places)
        )
        measurement.start()
        return cls(measurement, places)

    def arcs(self) -> set[tuple[str, int, int]]:
        """The jumps between lines since the last call."""
        data = self.measurement.get_data()
        return {(file, *arc) for file in data.measured_files() for arc in data.arcs(file) or ()}

    def report(self) -> str:
        """A table of the files."""
        self.measurement.stop()
        text = io.StringIO()
        self.measurement.report(file=text, show_missing=True, skip_covered=False)
        return text.getvalue()

    def percent(self) -> float:
        """Lines and branches that ran, of all."""
        self.measurement.stop()
        return round(self.measurement.report(file=io.StringIO(), include=list(self.places[:2])), 1)
