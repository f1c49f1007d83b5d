"""Runs a command line: what goes wrong is one line on stderr, and the exit status says its kind."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import typer

from octavo.cli.exit_status import INTERRUPTED, OK, USAGE, explanation, status_of
from octavo.cli.usage_error import usage_problem
from octavo.errors import OctavoError


def run_command_line(app: typer.Typer, arguments: Sequence[str], *, name: str, program: str) -> int:
    """The exit status. `name` is that of `app`, `program` what a failure is said to be of."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a model writes what a terminal may not have
    try:
        status = typer.main.get_command(app).main(list(arguments), name, standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        return _fail(*usage_problem(error, program), USAGE)
    except OctavoError as error:
        return _fail(program, explanation(error), status_of(error))
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return status or OK


def _fail(program: str, problem: str, status: int) -> int:
    print(f"{program}: {problem}", file=sys.stderr)
    return status
