"""The `octavo` command. Each command is a module of this folder, imported when it is asked for."""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import octavo
from octavo.cli.command_line import run_command_line
from octavo.cli.exit_status import FAILED, OK, PIPE_CLOSED
from octavo.cli.worker_tools import TOOLS, complete_tool, tool_command

COMMANDS = ("chat", "complete", "models", "status", "bench", "serve", *TOOLS, "completion")
# A full disk, a quota, a device that fails.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
_EPILOG = """\
Exit statuses: 0 ok, 1 refused or failed, 2 wrong usage, 3 no server reached, 4 timed out, 130
interrupted. OCTAVO_ADDRESS names the server for every command.
"""


class _Commands(TyperGroup):
    """Imports a command when it is asked for: `octavo --version` needs none of them."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Without typer's own flags for completion: `octavo completion` does it."""
        own = ("install_completion", "show_completion")
        return [parameter for parameter in super().get_params(ctx) if parameter.name not in own]

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        if cmd_name in TOOLS:
            return typer.main.get_command(tool_command(cmd_name))
        return typer.main.get_command(importlib.import_module(f"octavo.cli.{cmd_name}").app)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else "octavo --help lists them"
            ctx.fail(f"{args[0]} is not a command; {hint}")
        if ctx.resilient_parsing and args[0] in TOOLS:  # a shell completes the line
            raise SystemExit(complete_tool())
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever read our output has ended
            _drop_output()
            return PIPE_CLOSED
        except OSError as error:
            if error.filename is not None or error.errno not in _UNWRITABLE:
                raise
            _drop_output()
            print(f"octavo: the output cannot be written: {error.strerror}", file=sys.stderr)
            return FAILED


def _drop_output() -> None:
    """What Python flushes at its end goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(cls=_Commands, rich_markup_mode=None, epilog=_EPILOG)


@app.callback()
def octavo_command(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Serves FP8 language models over gRPC, and talks to them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the first argument names; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    arguments = ["--help"] if arguments in ([], ["help"]) else arguments
    if sys.stdout is None:  # closed by whoever started this
        sys.stderr.write("octavo: stdout is closed; /dev/null takes what nobody wants\n")
        return FAILED
    if arguments == ["--version"]:
        print(f"octavo {octavo.__version__}")
        return OK
    return run_command_line(app, arguments, name="octavo", program=f"octavo {arguments[0]}")
