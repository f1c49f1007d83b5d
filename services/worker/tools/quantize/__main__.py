"""`octavo quantize SRC DST`. Prints what it did."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from octavo.cli.answer_output import print_json
from octavo.cli.command_line import run_command_line
from octavo.cli.exit_status import OK
from octavo.errors import AlreadyExistsError, InvalidArgumentError
from octavo.logs import configure_logs
from octavo.status_line import StatusLine
from services.worker.tools.layouts import LAYOUTS, Layout
from services.worker.tools.model_argument import read_text
from services.worker.tools.perplexity.measured import Regime, measure_perplexity
from services.worker.tools.quantize.calibrate import largest_inputs
from services.worker.tools.quantize.convert import Converter
from services.worker.tools.quantize.source import source_folder

PROGRAM = "octavo quantize"
# What there is a layout for: dialect, weights, inputs.
_LAYOUTS = {
    ("friendli", "tensor", "static"): "friendli",
    ("friendli", "tensor", "dynamic"): "friendli-dynamic",
    ("friendli", "channel", "dynamic"): "friendli-channel",
    ("compressed-tensors", "tensor", "static"): "compressed-tensors",
    ("compressed-tensors", "tensor", "dynamic"): "compressed-tensors-dynamic",
    ("compressed-tensors", "channel", "dynamic"): "compressed-tensors-channel",
}

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Texts:
    """What was read of the files that flags name."""

    calibration: str | None
    perplexity: str | None


@app.command()
def quantize(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="A 16-bit checkpoint's folder, or a .gguf file.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="DST", help="The folder to write.")],
    *,
    dialect: Annotated[
        Literal["friendli", "compressed-tensors"], typer.Option(help="Who else reads it.")
    ] = "friendli",
    weights: Annotated[
        Literal["tensor", "channel"], typer.Option(help="A scale for each matrix, or each output.")
    ] = "tensor",
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A text; inputs get static scales. Else dynamic."),
    ] = None,
    perplexity: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A text to compare before and after on.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Writes a 16-bit checkpoint in FP8: the matrices of the layers as e4m3 codes with scales.

    Matrices that read the same input share a scale. With --calibration the model reads a text, and
    the largest inputs that it meets become static scales; take a text of the kind that it will
    be used on, a few thousand tokens long. Embeddings, norms and head stay as they are.

    \b
    Examples:
      octavo quantize models/mine models/mine-fp8
      octavo quantize models/mine models/mine-fp8 --calibration articles.txt --perplexity story.txt
      octavo quantize models/mine models/mine-fp8 --dialect compressed-tensors --weights channel
      octavo quantize SmolLM2-135M-Instruct.gguf models/small-fp8
    """
    layout = _layout(dialect, weights, "static" if calibration else "dynamic")
    texts = Texts(
        calibration=read_text(calibration) if calibration else None,
        perplexity=read_text(perplexity) if perplexity else None,
    )
    if folder.exists() and any(folder.iterdir()):
        raise AlreadyExistsError(f"{folder} exists and is not empty.", reason="DST_EXISTS")
    line = StatusLine(sys.stderr)
    try:
        figures = _convert(source, folder, layout, texts, line)
    finally:
        line.close()
    if json:
        print_json({"model": str(folder), **figures})
    else:
        for name, figure in figures.items():
            print(f"perplexity, {name.replace('_', ' ')}: {figure:.4f}")
        print(folder)
    return OK


def _layout(dialect: str, weights: str, inputs: str) -> Layout:
    if (dialect, weights, inputs) not in _LAYOUTS:
        raise InvalidArgumentError(
            "--weights channel goes with dynamic inputs: leave out --calibration.",
            reason="INVALID_FIELD",
        )
    return LAYOUTS[_LAYOUTS[dialect, weights, inputs]]


def _convert(
    source: Path, folder: Path, layout: Layout, texts: Texts, line: StatusLine
) -> dict[str, Any]:
    """Writes the checkpoint; perplexities before and after, where a text for them was given."""
    with source_folder(source, folder, line) as plain:
        largest = None
        if texts.calibration is not None:
            largest = largest_inputs(plain, texts.calibration, line)
        converter = Converter(plain, layout, largest)
        folder.mkdir(parents=True, exist_ok=True)
        converter.write(folder, line)
        if texts.perplexity is None:
            return {}
        before = _perplexity(plain, texts.perplexity, line)
    return {
        "in_16_bits": before,
        "weights_in_fp8": _perplexity(folder, texts.perplexity, line),
        "weights_and_inputs_in_fp8": _perplexity(
            folder, texts.perplexity, line, fp8_activations=True
        ),
    }


def _perplexity(
    folder: Path, text: str, line: StatusLine, *, fp8_activations: bool = False
) -> float:
    regime = Regime(
        context=1024, device="auto", dtype=None, threads=None, fp8_activations=fp8_activations
    )
    return measure_perplexity(folder, text, regime, line).perplexity


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    return run_command_line(app, arguments, name=PROGRAM, program=PROGRAM)


if __name__ == "__main__":
    configure_logs("quantize")  # to stderr: stdout is for what was made
    sys.exit(main())
