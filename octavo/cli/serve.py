"""`octavo serve`."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from octavo.environment import unknown_variables
from octavo.launcher.commands import Commands
from octavo.launcher.errors import LaunchError
from octavo.launcher.serve import serve
from octavo.launcher.settings import PROGRAM, ServeSettings

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class _Serve(TyperCommand):
    """Hands its arguments on as they are: octavo/settings.py reads them, for every process alike.

    Only a shell that completes a line is told the flags here.
    """

    ignore_unknown_options = True
    allow_extra_args = True

    def get_params(self, ctx: Any) -> list[Any]:
        return _flags() if ctx.resilient_parsing else []


@app.command(cls=_Serve, add_help_option=False)
def serve_command(context: typer.Context) -> int:
    """Starts gateway, tokenizer and worker on this machine."""
    return run(context.args)


def run(argv: Sequence[str], commands: Commands | None = None) -> int:
    """Reads the flags and serves until a signal; the exit status."""
    settings = ServeSettings.load(argv, prog=PROGRAM)
    for variable in unknown_variables(os.environ):
        print(f"{PROGRAM}: unknown environment variable {variable}", file=sys.stderr)
    try:
        return serve(settings, commands)
    except LaunchError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.status


def _flags() -> list[Any]:
    """The fields of the settings as flags of the command line."""
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[field.annotation, typer.Option(help=field.description)],
        )
        for name, field in ServeSettings.model_fields.items()
    ]

    def settings(**values: Any) -> None:
        """Is never called."""

    settings.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flags = typer.Typer(add_completion=False)
    flags.command()(settings)
    return typer.main.get_command(flags).params
