"""`octavo completion`: what a shell needs to complete the commands and flags of `octavo`."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

from octavo.cli.exit_status import OK

_ASK = "_OCTAVO_COMPLETE"  # how typer is asked for a script

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def completion(
    context: typer.Context,
    shell: Annotated[
        Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="Which shell.")
    ],
) -> int:
    """Prints a script that completes commands and flags.

    \b
    Examples:
      eval "$(octavo completion bash)"                                  in ~/.bashrc
      eval "$(octavo completion zsh)"                                   in ~/.zshrc, after compinit
      octavo completion fish > ~/.config/fish/completions/octavo.fish
    """
    os.environ[_ASK] = f"source_{shell}"
    try:
        context.find_root().command.main([], "octavo")
    except SystemExit as end:
        return int(end.code or OK)
    finally:
        del os.environ[_ASK]
    raise AssertionError("typer ends once it has printed a script")
