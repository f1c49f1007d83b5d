"""`octavo serve`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from octavo.launcher.commands import Commands
from octavo.launcher.errors import LaunchError
from octavo.launcher.serve import serve
from octavo.launcher.settings import PROGRAM, ServeSettings

SUMMARY = "start gateway, tokenizer and worker on this machine"


def run(argv: Sequence[str], commands: Commands | None = None) -> int:
    """Reads the flags and serves until a signal; the exit status."""
    settings = ServeSettings.load(argv, prog=PROGRAM)
    try:
        return serve(settings, commands)
    except LaunchError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.status
