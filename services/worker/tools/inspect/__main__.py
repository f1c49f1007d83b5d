"""`octavo inspect MODEL`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from octavo.cli.answer_output import print_json
from octavo.cli.command_line import run_command_line
from octavo.cli.exit_status import OK
from octavo.errors import invalid_field
from services.worker.held_weights import NumericChoices
from services.worker.tools.inspect.devices import GPU_80_GB, GPU_141_GB, this_machine
from services.worker.tools.inspect.inspected import inspect_folder
from services.worker.tools.inspect.report import as_json, lines_of
from services.worker.tools.model_argument import ModelFolder

PROGRAM = "octavo inspect"

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def inspect(
    model: ModelFolder,
    *,
    num_devices: Annotated[
        str, typer.Option(metavar="N,N", help="How many devices share the model.")
    ] = "1,2,4,8",
    kernels: Annotated[
        Literal["auto", "reference", "avx512bf16", "avx2"],
        typer.Option(help="What computes on this machine without a GPU: as --kernels of serve."),
    ] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Says what a checkpoint is, and what it needs of devices of 80 GB, of 141 GB, and of this
    machine.

    Reads JSON files and headers alone, so that it takes a moment. WEIGHTS and KV PER TOKEN are of
    one device; KV TOKENS is how many all requests together may hold, with 10 % of the memory and
    2 GiB set aside. On a machine without a GPU, ranks share what is free now; FP8 weights take a
    byte there with the compiled kernels, and as much as activations with the reference.

    \b
    Examples:
      octavo inspect models/mine
      octavo inspect models/mine --num-devices 2
      octavo inspect models/mine --json | jq '.devices[] | select(.fits)'
    """
    kinds = (GPU_80_GB, GPU_141_GB, this_machine())
    choices = NumericChoices(kernels=kernels)
    found = inspect_folder(model, kinds, _numbers(num_devices), choices)
    if json:
        print_json(as_json(found))
    else:
        print("\n".join(lines_of(found)))
    return OK


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 0 < int(part) <= 1024 for part in parts):
        raise invalid_field("--num-devices", text, "whole numbers from 1 to 1024, with commas")
    return [int(part) for part in parts]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    return run_command_line(app, arguments, name=PROGRAM, program=PROGRAM)


if __name__ == "__main__":
    sys.exit(main())
