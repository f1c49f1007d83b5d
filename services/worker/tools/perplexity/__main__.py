"""`octavo perplexity MODEL TEXT`."""

from __future__ import annotations

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
from services.worker.tools.model_argument import ModelFolder, read_text

PROGRAM = "octavo perplexity"

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def perplexity(
    model: ModelFolder,
    text: Annotated[
        Path, typer.Argument(metavar="TEXT", help="A UTF-8 file; - is standard input.")
    ],
    *,
    context: Annotated[
        int, typer.Option(min=2, metavar="N", help="Tokens of a window, at most the model's.")
    ] = 1024,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"],
        typer.Option(help="Type of activations; auto is the checkpoint's own."),
    ] = "auto",
    device: Annotated[
        Literal["cpu", "cuda", "auto"], typer.Option(help="Where it is computed.")
    ] = "auto",
    fp8_weights: Annotated[
        bool, typer.Option("--fp8-weights", help="Round 16-bit weights to FP8 at load.")
    ] = False,
    fp8_activations: Annotated[
        bool,
        typer.Option(
            "--fp8-activations", help="Round the inputs of FP8 matrices as the checkpoint says."
        ),
    ] = False,
    fp8_kv_cache: Annotated[
        bool, typer.Option("--fp8-kv-cache", help="Keep keys and values in FP8.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, metavar="N", help="CPU threads.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Measures how well a checkpoint predicts a text: lower is better.

    The text is cut into windows that lie side by side (stride = context), each computed by itself
    through the engine that serves; every token but the first of its window is scored. Compare
    figures of the same text, context and tokenizer only. Weights in FP8 are used as stored; their
    inputs stay in 16 bits (weight-only) unless --fp8-activations is given (W8A8).

    \b
    Examples:
      octavo perplexity models/mine story.txt
      octavo perplexity models/mine story.txt --fp8-activations
      octavo perplexity models/mine story.txt --context 4096 --dtype float32
      octavo perplexity models/mine - --json < story.txt | jq .perplexity
    """
    # Imported here: torch takes seconds, which a shell that completes a flag would wait for.
    from services.worker.tools.perplexity.measured import (  # noqa: PLC0415 - as said above
        DTYPES,
        Regime,
        measure_perplexity,
    )

    line = StatusLine(sys.stderr)
    regime = Regime(
        context=context,
        device=device,
        dtype=DTYPES[dtype],
        threads=threads,
        fp8_weights=fp8_weights,
        fp8_activations=fp8_activations,
        fp8_kv_cache=fp8_kv_cache,
    )
    try:
        measured = measure_perplexity(model, read_text(text), regime, line)
    finally:
        line.close()
    if json:
        print_json({"model": str(model), "text": str(text), **measured.as_json()})
    else:
        print(f"perplexity {measured.perplexity:.4f}  ({measured.num_tokens} tokens)")
        print(measured.regime)
    return OK


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    return run_command_line(app, arguments, name=PROGRAM, program=PROGRAM)


if __name__ == "__main__":
    configure_logs("perplexity")  # to stderr: stdout is for the figure
    sys.exit(main())
