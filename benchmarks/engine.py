"""The engine alone on this machine: scheduler, model and sampling, without gRPC and text.

    python -m benchmarks.engine --model FOLDER [--device cpu] [--quick] [--json] [--output FILE]

Regime: a process of its own, greedy, prompts of random ids that nothing shares. Decode: so many
streams, from prompts of so many tokens on. Prefill: one prompt, from its submission to its first
token. Figures are medians of turns; turns in which other processes took more than a share of the
machine are dropped. On a CPU, one stream reads every weight and its context once a step: that rate
is held against what a plain sum over a gibibyte reads in the same minute.

Beside another engine: benchmarks/peers. With all that serves it: benchmarks/serving.py.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._interleaved import Interleaving, figure
from benchmarks._record import record
from benchmarks._stepping import SteppingProcess, stepping
from services.worker.rank.thread_waiting import thread_waiting

ENGINE = "octavo"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How much of everything."""

    streams: tuple[int, ...]
    contexts: tuple[int, ...]
    prompts: tuple[int, ...]
    turns: int


QUICK = Plan(streams=(1, 8, 32), contexts=(256,), prompts=(512,), turns=5)
FULL = Plan(streams=(1, 4, 8, 16, 32), contexts=(256, 2000), prompts=(512, 2048), turns=13)
_MILLISECONDS_OF_A_TURN = 300


def run(interleaving: Interleaving, plan: Plan, device: str) -> list[dict[str, Any]]:
    """Every cell, printed as soon as it is known."""
    found, engine = [], interleaving.engines[ENGINE]
    for context in plan.contexts:
        for streams in plan.streams:
            steps = max(8, _MILLISECONDS_OF_A_TURN // (3 + streams))
            turns = interleaving.decode(streams, context, steps)[ENGINE]
            cell: dict[str, Any] = {"phase": "decode", "streams": streams, "context": context}
            cell |= figure(turns, interleaving.others_limit)
            cell["step_ms"] = round(1000 * streams / cell["tokens_per_s"], 2)
            if streams == 1 and device == "cpu":
                cell |= _reading(engine, cell["step_ms"], context, steps * plan.turns)
            found.append(cell)
            print(" ".join(f"{name} {value}" for name, value in cell.items()), flush=True)
    for tokens in plan.prompts:
        turns = interleaving.prefill(tokens)[ENGINE]
        cell = {"phase": "prefill", "tokens": tokens} | figure(turns, interleaving.others_limit)
        found.append(cell)
        print(" ".join(f"{name} {value}" for name, value in cell.items()), flush=True)
    return found


def _reading(
    engine: SteppingProcess, step_ms: float, context: int, num_steps: int
) -> dict[str, Any]:
    """What a step of one stream reads, and how that compares with plain reading."""
    rates = [(answer := engine.ask("read"))["bytes"] / answer["seconds"] for _ in range(5)]
    held = engine.ask("held")
    kv_bytes = held["kv_bytes_per_token"] * (context + num_steps / 2)
    rate = (held["step_bytes"] + kv_bytes) / (step_ms / 1000)
    return {
        "step_mb": round((held["step_bytes"] + kv_bytes) / 1e6, 1),
        "gb_per_s": round(rate / 1e9, 1),
        "plain_gb_per_s": round(median(rates) / 1e9, 1),
        "share_of_plain": round(rate / median(rates), 3),
    }


def ratios(found: list[dict[str, Any]]) -> dict[str, float]:
    """The share of plain reading at one stream; tokens of more streams for each of one."""
    decode = {(c["streams"], c["context"]): c for c in found if c["phase"] == "decode"}
    result = {}
    for (streams, context), cell in decode.items():
        if "share_of_plain" in cell:
            result[f"share_of_plain_{context}"] = cell["share_of_plain"]
        if (one := decode.get((1, context))) and streams > 1:
            ratio = cell["tokens_per_s"] / one["tokens_per_s"]
            result[f"decode_{streams}_to_1_{context}"] = round(ratio, 2)
    return result


def main() -> None:
    """Measures and prints it."""
    arguments = _parser().parse_args()
    plan = QUICK if arguments.quick else FULL
    command = [
        *(sys.executable, "-m", "benchmarks._engine_stepped", f"--model={arguments.model}"),
        *(f"--threads={arguments.threads}", f"--device={arguments.device}", *arguments.engine),
    ]
    with stepping(command, thread_waiting(os.environ)) as engine:
        interleaving = Interleaving(
            engines={ENGINE: engine},
            turns=arguments.turns or plan.turns,
            others_limit=arguments.others_limit,
            patience_s=arguments.patience_s,
        )
        found = run(interleaving, plan, arguments.device)
    if arguments.output is not None:
        record(
            "engine",
            arguments.model,
            arguments.output,
            threads=arguments.threads,
            others_limit=arguments.others_limit,
            figures=found,
        )
    if arguments.json:
        print(json.dumps(ratios(found)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="FOLDER", help="a checkpoint")
    add("--device", default="cpu", help="cpu, the default, or cuda")
    add("--quick", action="store_true", help="fewer cells and turns: under a minute")
    add("--turns", type=int, metavar="N", help="of each cell")
    add("--threads", type=int, metavar="N", default=os.cpu_count() or 1, help="on a CPU")
    others = "share of the machine that others take in a quiet turn (%(default)s)"
    add("--others-limit", type=float, metavar="X", default=0.05, help=others)
    patience = "longest wait for a quiet turn, each (%(default)s)"
    add("--patience-s", type=float, metavar="S", default=0.0, help=patience)
    add("--engine", nargs="*", default=[], metavar="FLAG", help="further flags of the engine")
    add("--json", action="store_true", help="print ratios as the last line")
    add("--output", type=Path, metavar="FILE", help="also write all figures to this file")
    return parser


if __name__ == "__main__":
    main()
