"""Perplexity of the default model in FP8 against the same weights in bf16.

    python -m benchmarks.perplexity --model FOLDER [--output FILE.json]

Regime: texts of benchmarks/texts and LICENSE, windows of 1,024 tokens side by side, through the
engine, in bfloat16. FOLDER is the default model; the bf16 one is prepared beside it. Each figure is
what `octavo perplexity FOLDER TEXT` prints, with --fp8-activations where inputs are rounded. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks._record import record
from octavo.status_line import StatusLine
from services.worker.tools.perplexity.measured import Regime, measure_perplexity
from services.worker.tools.prepare import prepared_default_model

_HERE = Path(__file__).parent
_NAMES = ("alice.txt", "python-docs.txt", "gpl-3.txt", "artistic.txt", "statistics-py.txt")
TEXTS = [_HERE / "texts" / name for name in _NAMES]
KNOWN = _HERE.parent / "LICENSE"  # the Apache licence, in whose text most projects begin


def measure(text: Path, fp8: Path, bf16: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The three figures of a text."""
    content = text.read_text(encoding="utf-8")

    def perplexity(folder: Path, *, fp8_activations: bool = False) -> float:
        regime = Regime(
            context=arguments.context,
            device="cpu",
            dtype=None,
            threads=arguments.threads,
            fp8_activations=fp8_activations,
        )
        return measure_perplexity(folder, content, regime, StatusLine(sys.stderr)).perplexity

    base = perplexity(bf16)
    weights, inputs = perplexity(fp8), perplexity(fp8, fp8_activations=True)
    return {
        "text": text.name,
        "bf16": round(base, 4),
        "fp8_weights": round(weights, 4),
        "fp8_weights_and_inputs": round(inputs, 4),
        "fp8_weights_percent": round(100 * (weights / base - 1), 2),
        "fp8_weights_and_inputs_percent": round(100 * (inputs / base - 1), 2),
    }


def main() -> None:
    """Measures each text and prints a line for it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.perplexity")
    parser.add_argument("--model", type=Path, required=True, help="the default model's folder")
    parser.add_argument("--context", type=int, default=1024, help="tokens of a window")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    bf16 = prepared_default_model(fp8=False)
    figures = []
    for text in (*TEXTS, KNOWN):
        figures.append(measure(text, arguments.model, bf16, arguments))
        print(
            "{text}: bf16 {bf16}; weights in FP8 {fp8_weights_percent:+.2f} %, inputs too"
            " {fp8_weights_and_inputs_percent:+.2f} %".format(**figures[-1]),
            flush=True,
        )
    record("perplexity", arguments.model, arguments.output, figures=figures)


if __name__ == "__main__":
    main()
