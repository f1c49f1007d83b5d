"""`octavo synthesize --shape SHAPE DST`. Prints the folder, the last line on stdout."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from octavo.cli.command_line import run_command_line
from octavo.cli.exit_status import OK
from octavo.errors import InvalidArgumentError
from octavo.status_line import StatusLine
from services.worker.tools.layouts import LAYOUTS
from services.worker.tools.synthesize.checkpoint import Recipe, synthesize
from services.worker.tools.synthesize.shapes import SHAPES

PROGRAM = "octavo synthesize"
_MEMORY = Path("/dev/shm")  # noqa: S108 - files that live in memory, in a folder of a random name

ShapeName = StrEnum("ShapeName", {name: name for name in SHAPES})  # type: ignore[misc]
DialectName = StrEnum("DialectName", {name: name for name in LAYOUTS})  # type: ignore[misc]

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def synthesize_command(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DST", help="The folder to write.")
    ] = None,
    *,
    shape: Annotated[ShapeName, typer.Option(help="The size.")] = ShapeName["default"],
    dialect: Annotated[
        DialectName, typer.Option(help="What matrices are stored as; none: 16 bits.")
    ] = DialectName["friendli"],
    layers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="So many layers instead of all.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Draws other weights.")] = 0,
    sparse: Annotated[
        bool, typer.Option("--sparse", help="Headers and sizes alone: nothing that can be served.")
    ] = False,
    in_memory: Annotated[
        bool, typer.Option("--in-memory", help="A new folder in /dev/shm instead of DST.")
    ] = False,
) -> int:
    """Writes a checkpoint of random weights, with a tokenizer: speed can be measured on it.

    Shards are those of real checkpoints: at most 10 GB each, with an index. A folder that holds the
    same model already is left as it is. Prints the folder.

    \b
    Examples:
      octavo synthesize --shape tiny models/tiny
      octavo synthesize --shape llama-2-70b models/70b
      octavo synthesize --shape llama-2-7b --dialect deepseek --layers 4 --in-memory
      octavo synthesize --shape llama-2-70b --sparse models/70b-holes
    """
    if (folder is None) != in_memory:
        raise InvalidArgumentError("Name either DST or --in-memory.", reason="INVALID_FIELD")
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix=f"octavo-{shape.value}-", dir=_MEMORY))
    chosen = SHAPES[shape.value]
    recipe = Recipe(
        shape_name=shape.value,
        shape=dataclasses.replace(chosen, num_layers=layers or chosen.num_layers),
        dialect=dialect.value,
        layout=LAYOUTS[dialect.value],
        seed=seed,
        sparse=sparse,
    )
    line = StatusLine(sys.stderr)
    try:
        synthesize(folder, recipe, line)
    finally:
        line.close()
    print(folder)
    return OK


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    return run_command_line(app, arguments, name=PROGRAM, program=PROGRAM)


if __name__ == "__main__":
    sys.exit(main())
