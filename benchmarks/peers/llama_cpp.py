"""Our engine beside llama.cpp on CPUs: the same model, the same threads, turn by turn.

    make peers                     # llama-cpp-python, compiled for this machine, into .venv-peers
    python -m benchmarks.peers.llama_cpp --model FOLDER [--quick] [--json] [--output FILE.json]

Regime: ours is the whole engine (scheduler, sampling, Python and all), greedy, from the FP8 weights
of FOLDER. llama.cpp is `llama_decode` alone, without sampling, from the same GGUF file as Q8_0, one
KV cache (f16) for each stream, its other settings as they come. Decode: streams with prompts of
random ids; both contexts grow alike. Prefill: one prompt, up to its first token (ours) or its
logits (theirs). Figures are medians of turns; _interleaved.py says which are dropped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._interleaved import Interleaving, Turn, figure
from benchmarks._record import record
from benchmarks._stepping import stepping
from services.worker.rank.thread_waiting import thread_waiting
from services.worker.tools.prepare.default_model import cache_folder
from services.worker.tools.prepare.download import cached_wheel, gguf_of_wheel
from services.worker.tools.prepare.progress import ignore_progress

OURS, THEIRS = "octavo", "llama.cpp"
# -P: this very file has the library's name, and lies beside the child.
PEER = (".venv-peers/bin/python", "-P", str(Path(__file__).parent / "_llama_cpp_stepped.py"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How much of everything."""

    streams: tuple[int, ...]
    contexts: tuple[int, ...]
    prompts: tuple[int, ...]
    turns: int

    @staticmethod
    def steps(streams: int) -> int:
        """Steps of one turn: long enough to be measured, for both."""
        return max(10, 192 // (streams + 1))


QUICK = Plan(streams=(1, 8, 32), contexts=(256,), prompts=(512,), turns=5)
FULL = Plan(streams=(1, 4, 8, 16, 32), contexts=(256, 2000), prompts=(512, 2048), turns=13)


@contextmanager
def q8_0(gguf: Path | None, threads: int) -> Iterator[Path]:
    """A file with the weights as Q8_0: of `gguf`, or of the default model."""
    with tempfile.TemporaryDirectory(prefix="octavo-peers-") as made:
        source, target = gguf, Path(made) / "q8_0.gguf"
        if source is None:
            source = Path(made) / "default.gguf"
            source.write_bytes(gguf_of_wheel(cached_wheel(cache_folder(), ignore_progress)))
        command = [*PEER, str(target), f"--quantise={source}", f"--threads={threads}"]
        subprocess.run(command, check=True)
        yield target


def run(interleaving: Interleaving, plan: Plan) -> list[dict[str, Any]]:
    """Every cell, printed as soon as it is known."""
    found = []
    for context in plan.contexts:
        for streams in plan.streams:
            turns = interleaving.decode(streams, context, plan.steps(streams))
            cell = {"phase": "decode", "streams": streams, "context": context}
            found.append(cell | compare(turns, interleaving.others_limit))
            _print(found[-1], f"decode, {streams} streams, context {context}")
    for tokens in plan.prompts:
        cell = {"phase": "prefill", "tokens": tokens}
        found.append(cell | compare(interleaving.prefill(tokens), interleaving.others_limit))
        _print(found[-1], f"prefill, {tokens} tokens")
    return found


def compare(turns: dict[str, list[Turn]], others_limit: float) -> dict[str, Any]:
    """The figures of both, and how many times as fast ours is."""
    figures = {name: figure(taken, others_limit) for name, taken in turns.items()}
    ratio = figures[OURS]["tokens_per_s"] / figures[THEIRS]["tokens_per_s"]
    return {**figures, "ratio": round(ratio, 2)}


def ratios(found: list[dict[str, Any]]) -> dict[str, float]:
    """By cell: decode_STREAMS_CONTEXT and prefill_TOKENS."""
    return {
        f"decode_{cell['streams']}_{cell['context']}"
        if cell["phase"] == "decode"
        else f"prefill_{cell['tokens']}": cell["ratio"]
        for cell in found
    }


def _print(cell: dict[str, Any], what: str) -> None:
    sides = "; ".join(
        "{name} {tokens_per_s} ({lowest} to {highest}), {kept} kept, {dropped} dropped".format(
            name=name, **cell[name]
        )
        for name in (OURS, THEIRS)
    )
    print(f"{what}: ratio {cell['ratio']}; tokens/s: {sides}", flush=True)


def main() -> None:
    """Runs the comparison and prints it."""
    arguments = _parser().parse_args()
    if not Path(PEER[0]).exists():
        sys.exit(f"{PEER[0]} is not there: `make peers` makes it")
    plan, threads = QUICK if arguments.quick else FULL, arguments.threads
    module = [sys.executable, "-m", "benchmarks._engine_stepped", f"--threads={threads}"]
    with ExitStack() as stack:
        file = stack.enter_context(q8_0(arguments.gguf, threads))
        ours = stack.enter_context(
            stepping(
                [*module, f"--model={arguments.model}", *arguments.engine],
                thread_waiting(os.environ),
            )
        )
        theirs = stack.enter_context(stepping([*PEER, str(file), f"--threads={threads}"]))
        interleaving = Interleaving(
            engines={OURS: ours, THEIRS: theirs},
            turns=arguments.turns or plan.turns,
            others_limit=arguments.others_limit,
            patience_s=arguments.patience_s,
        )
        found = run(interleaving, plan)
    if arguments.output is not None:
        limit = arguments.others_limit
        record(
            "peers.llama_cpp",
            arguments.model,
            arguments.output,
            threads=threads,
            others_limit=limit,
            figures=found,
        )
    if arguments.json:
        print(json.dumps(ratios(found)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers.llama_cpp",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="FOLDER", help="a checkpoint")
    add("--gguf", type=Path, metavar="FILE", help="the same model; absent: the default model's")
    add("--quick", action="store_true", help="fewer cells and turns: under a minute")
    add("--turns", type=int, metavar="N", help="of each cell")
    add("--threads", type=int, metavar="N", default=os.cpu_count() or 1, help="of both engines")
    others = "share of the machine that others take in a quiet turn (%(default)s)"
    add("--others-limit", type=float, metavar="X", default=0.05, help=others)
    patience = "longest wait for a quiet turn, each (%(default)s)"
    add("--patience-s", type=float, metavar="S", default=0.0, help=patience)
    add("--engine", nargs="*", default=[], metavar="FLAG", help="further flags of our engine")
    add("--json", action="store_true", help="print the ratios as the last line")
    add("--output", type=Path, metavar="FILE", help="also write all figures to this file")
    return parser


if __name__ == "__main__":
    main()
