"""`python -m services.worker.tools.completion`: what a shell offers for a line that begins with
`octavo` and a tool, as its flags are declared. `octavo` hands such lines on, environment and all.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup


class _Tools(TyperGroup):
    """The tools by name; each is imported when a line names it."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        tool = importlib.import_module(f"services.worker.tools.{cmd_name}.__main__")
        return typer.main.get_command(tool.app)


app = typer.Typer(cls=_Tools, rich_markup_mode=None)


@app.callback()
def octavo() -> None:
    """Stands for the command of that name."""


if __name__ == "__main__":
    sys.exit(typer.main.get_command(app).main([], "octavo"))
