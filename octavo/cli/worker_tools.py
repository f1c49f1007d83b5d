"""The commands that work on checkpoints: programs of services/worker/tools, run in this terminal.

They need what the worker needs, so that the wheel, which holds the client alone, only says where to
get them. What they print, what is typed at them and their exit status are the command's own. So are
their flags: a process of theirs tells a shell that completes a line.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

import typer
from typer.core import TyperCommand

from octavo.cli.exit_status import FAILED, USAGE
from octavo.launcher.errors import LaunchError
from octavo.launcher.services import services_environment, services_root
from octavo.tether import tethered

# Command -> what it does, for `octavo --help`. `octavo COMMAND --help` is the program's own.
TOOLS = {
    "inspect": "Says what a checkpoint is, and how much memory it needs.",
    "perplexity": "Measures how well a checkpoint predicts a text.",
    "quantize": "Writes a 16-bit checkpoint in FP8.",
    "synthesize": "Writes a checkpoint of random weights.",
}


def tool_command(name: str) -> typer.Typer:
    """The command `name`, which hands its arguments on as they are."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)

    @app.command(name, cls=_Handed, add_help_option=False, help=TOOLS[name])
    def command(context: typer.Context) -> int:
        return _run(name, context.args)

    return app


def complete_tool() -> int:
    """Prints what a shell asked for by the environment; the exit status, which some shells read."""
    try:
        root = services_root()
    except LaunchError:
        return FAILED  # nothing is offered
    command = [sys.executable, "-m", "services.worker.tools.completion"]
    return subprocess.run(command, env=services_environment(root), check=False).returncode


class _Handed(TyperCommand):
    """Takes every argument for another program."""

    ignore_unknown_options = True
    allow_extra_args = True
    allow_interspersed_args = False


def _run(name: str, arguments: Sequence[str]) -> int:
    try:
        root = services_root()
    except LaunchError as error:
        print(f"octavo {name}: {error}", file=sys.stderr)
        return USAGE
    command = [sys.executable, "-m", f"services.worker.tools.{name}", *arguments]
    return run_here(tethered(command), services_environment(root))


def run_here(command: Sequence[str], environment: dict[str, str]) -> int:
    """The exit status. Ctrl-C reaches the program by itself, SIGTERM is handed on: the program puts
    away what is half done, and is waited for.
    """
    with subprocess.Popen(command, env=environment) as process:
        before = {
            signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
            signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: process.terminate()),
        }
        try:
            status = process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return status if status >= 0 else 128 - status
