"""How `octavo status` prints its reports: in place on a terminal, one after the other elsewhere."""

from __future__ import annotations

import sys
from typing import Protocol

from octavo.cli.answer_output import print_json
from octavo.cli.exit_status import explanation
from octavo.cli.load_report import LoadReport
from octavo.errors import UnavailableError

_UP = "\x1b[{}F"  # to the start of the line so many above
_CLEAR_BELOW = "\x1b[J"


class LoadOutput(Protocol):
    """Prints reports; in a live view a look may fail and later ones recover."""

    def show(self, report: LoadReport | UnavailableError) -> None:
        """Prints the newest report."""


class JsonLoad:
    """Each report as one JSON object on a line; a look that failed has `error`."""

    def show(self, report: LoadReport | UnavailableError) -> None:
        if isinstance(report, UnavailableError):
            print_json({"error": report.message})
        else:
            print_json(report.values())


class TextLoad:
    """Each report as a table; a later one takes the place of the one before on a terminal."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._num_lines = 0

    def show(self, report: LoadReport | UnavailableError) -> None:
        if isinstance(report, UnavailableError):
            lines = [explanation(report)]
        else:
            lines = [*report.lines(self._address)]
        if sys.stdout.isatty():
            back = _UP.format(self._num_lines) if self._num_lines else ""
            sys.stdout.write(back + _CLEAR_BELOW)
        elif self._num_lines:
            sys.stdout.write("\n")
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()
        self._num_lines = len(lines)


def load_output(address: str, *, json: bool) -> LoadOutput:
    """How the command prints, by its flag."""
    return JsonLoad() if json else TextLoad(address)
