"""`octavo quantize SRC DST`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from octavo.cli.answer_output import print_json
from octavo.cli.command_line import run_command_line
from octavo.cli.exit_status import OK
from octavo.logs import configure_logs
from octavo.status_line import StatusLine
from services.worker.tools.model_argument import read_text
from services.worker.tools.quantize.scheme import Dialect, Inputs, Weights, choose_scheme

PROGRAM = "octavo quantize"

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("quantize")
def quantize_command(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="A checkpoint's folder, or a GGUF file.")
    ],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="The folder to write.")],
    *,
    dialect: Annotated[Dialect, typer.Option(help="Who shall read it.")] = "friendli",
    inputs: Annotated[
        Inputs, typer.Option(help="Scales of inputs: measured now, or of each token as it comes.")
    ] = "static",
    weights: Annotated[
        Weights | None,
        typer.Option(
            show_default="tensor for static inputs, else channel",
            help="One scale for a matrix, or one for each output channel.",
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default="six short prompts",
            help="A UTF-8 text like what will be served, for static inputs; - is standard input.",
        ),
    ] = None,
    calibration_tokens: Annotated[
        int, typer.Option(min=1, metavar="N", help="Tokens of it that are run.")
    ] = 4096,
    perplexity: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Measure before and after on this text; takes the whole model."
        ),
    ] = None,
    context: Annotated[
        int, typer.Option(min=2, metavar="N", help="Tokens of a window of that text.")
    ] = 1024,
    device: Annotated[
        Literal["cpu", "cuda", "auto"], typer.Option(help="Where texts are computed.")
    ] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, metavar="N", help="CPU threads.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace DST where it is a model's folder.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Writes a checkpoint in 16 or 32 bits as FP8 (e4m3), matrix by matrix.

    The matrices of the decoder's layers become FP8; embeddings, norms, biases and the head stay.
    Static inputs are rounded by the largest that the calibration text gives: give one that is like
    what will be served. Nothing is at DST before all of it is written.

    vLLM reads compressed-tensors. With friendli, a scale for each channel goes with dynamic inputs
    only.

    \b
    Examples:
      octavo quantize models/mine models/mine-fp8
      octavo quantize models/mine models/mine-fp8 --calibration chats.txt --perplexity story.txt
      octavo quantize models/mine models/mine-fp8 --dialect compressed-tensors --inputs dynamic
    """
    # Imported here: torch takes seconds, which a shell that completes a flag would wait for.
    import torch  # noqa: PLC0415

    from services.worker.tools.perplexity.measured import Regime  # noqa: PLC0415
    from services.worker.tools.quantize.quantized import (  # noqa: PLC0415
        Calibration,
        Order,
        quantize,
    )
    from services.worker.tools.quantize.report import as_json, lines_of  # noqa: PLC0415

    order = Order(
        source=source,
        destination=destination,
        overwrite=overwrite,
        scheme=choose_scheme(dialect, inputs, weights),
        calibration=Calibration(
            text=None if calibration is None else read_text(calibration),
            num_tokens=calibration_tokens,
            device=device,
        ),
        scored_text=None if perplexity is None else read_text(perplexity),
        regime=Regime(context=context, device=device, dtype=None, threads=threads),
    )
    if threads is not None:
        torch.set_num_threads(threads)
    line = StatusLine(sys.stderr)
    try:
        done = quantize(order, line)
    finally:
        line.close()
    if json:
        print_json(as_json(order, done))
    else:
        print("\n".join(lines_of(order, done)))
    return OK


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    return run_command_line(app, arguments, name=PROGRAM, program=PROGRAM)


if __name__ == "__main__":
    configure_logs("quantize")  # to stderr: stdout is for the report
    # SIGTERM like Ctrl-C: unwind, so that no half-written folder stays.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
