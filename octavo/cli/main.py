"""The `octavo` command: `octavo serve`, `octavo --version`."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import octavo
from octavo.cli import serve

_EXIT_USAGE = 2


@dataclass(frozen=True, slots=True)
class _Command:
    run: Callable[[Sequence[str]], int]
    summary: str


_COMMANDS = {"serve": _Command(serve.run, serve.SUMMARY)}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the first argument names; the exit status."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in _COMMANDS:
        return _COMMANDS[name].run(rest)
    if name in ("-h", "--help", "help"):
        print(_help())
        return 0
    if name == "--version":
        print(f"octavo {octavo.__version__}")
        return 0
    near = difflib.get_close_matches(name, _COMMANDS, n=1)
    hint = f"; did you mean {near[0]}?" if near else "; octavo --help lists them"
    print(f"octavo: {name} is not a command{hint}", file=sys.stderr)
    return _EXIT_USAGE


def _help() -> str:
    lines = [f"  {name:10}  {command.summary}" for name, command in _COMMANDS.items()]
    usage = "usage: octavo COMMAND [--help] [flags]   or   octavo --version"
    return "\n".join([usage, "", "commands:", *lines])
