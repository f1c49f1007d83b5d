"""The running product under load, through every door, against its own engine alone.

    python -m benchmarks.serving --model FOLDER [--quick] [--output benchmarks/results/serving.json]
    python -m benchmarks.serving --model FOLDER --grpc HOST:PORT --http http://HOST:PORT

Regime: `octavo serve` with its gateway, tokenizer, front and rank on this machine (or a product
that runs already); prompts of 5 to 400 random ids from a fixed seed, greedy, outputs of a fixed
length. Closed loops of 1, 8 and 32 clients; then open loops with Poisson arrivals at a share of
what the largest closed loop finished, some of whose requests are cancelled midway. The engine alone
runs the same requests in a process of its own beside each closed loop: phases take turns, one at a
time, so that the machine's noise hits both. A round in which others took too much of the machine is
left out where a quiet one remains; the table says how many were quiet. Unary answers come whole and
have no first token. The last line is JSON.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import psutil

from benchmarks import _serving_table as table
from benchmarks._engine_process import running_engine
from benchmarks._phases import Quiet, Round, Stage, figures
from benchmarks._product import running_product
from benchmarks._record import record
from octavo.bench.doors import DOORS
from octavo.bench.summary import Limits
from octavo.bench.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How much of everything."""

    rounds: int
    max_tokens: int  # of each answer
    jobs_per_client: int
    fewest_jobs: int  # of a closed loop, however few clients it has
    open_s: float  # of an open loop
    open_doors: Sequence[str]

    def num_jobs(self, concurrency: int) -> int:
        """Requests of one closed loop."""
        return max(self.fewest_jobs, self.jobs_per_client * concurrency)


QUICK = Plan(
    rounds=1,
    max_tokens=12,
    jobs_per_client=1,
    fewest_jobs=2,
    open_s=2.5,
    open_doors=("stream", "http"),
)
FULL = Plan(
    rounds=3,
    max_tokens=64,
    jobs_per_client=3,
    fewest_jobs=8,
    open_s=30.0,
    open_doors=("stream", "session", "http"),
)


# What a load is, and its rounds.
Measured = tuple[dict[str, Any], Sequence[Round]]


def closed_loops(
    stage: Stage, plan: Plan, doors: Sequence[str], concurrencies: Sequence[int]
) -> Iterator[Measured]:
    """Every closed loop. The rounds of all doors take turns."""
    workload = stage.workload(plan.max_tokens)
    for concurrency in concurrencies:
        num_jobs = plan.num_jobs(concurrency)
        rounds = [stage.closed(doors, concurrency, workload, num_jobs) for _ in range(plan.rounds)]
        for door in doors:
            load = {"door": door, "load": f"closed {concurrency}", "concurrency": concurrency}
            yield load, [one[door] for one in rounds]


def open_loops(
    stage: Stage, plan: Plan, doors: Sequence[str], rate: float, cancelled_share: float
) -> Iterator[Measured]:
    """Every open loop, once."""
    workload = stage.workload(plan.max_tokens, cancelled_share)
    for door in doors:
        load = {"door": door, "load": f"open {rate:.1f}/s", "requests_offered_per_s": rate}
        yield load, [stage.open(door, rate, plan.open_s, workload)]


def open_rate(closed: Sequence[dict[str, Any]], share: float) -> float:
    """A share of the requests a second that the largest closed loop finished, all doors alike."""
    most = max(figure["concurrency"] for figure in closed)
    rates: list[float] = [f["requests_per_s"] for f in closed if f["concurrency"] == most]
    return round(share * mean(rates), 2)


def open_stage(stack: ExitStack, arguments: argparse.Namespace) -> Stage:
    """Starts what has to run: the product, unless its address is given, and the engine alone."""
    processes = {"client": [psutil.Process()]}
    quiet = Quiet(limit=arguments.others_limit, patience_s=arguments.patience_s)
    if arguments.grpc is None:
        device = f"--device={arguments.device}"
        product = stack.enter_context(running_product(arguments.model, device))
        grpc, http = product.grpc, product.http
        processes |= product.processes()
    else:
        grpc, http = arguments.grpc, arguments.http
        quiet = Quiet(limit=1.0, patience_s=0.0)  # the product itself is among the others
    engine = stack.enter_context(running_engine(arguments.model, arguments.device))
    processes["engine"] = [engine.process]
    return Stage(
        target=Target(grpc=grpc, http=http, temperature=arguments.temperature),
        engine=engine,
        processes=processes,
        quiet=quiet,
    )


def run(stage: Stage, plan: Plan, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures of every load, each printed as soon as it is known."""
    limits = Limits(
        first_token_ms=arguments.first_token_limit_ms,
        inter_token_ms=arguments.inter_token_limit_ms,
    )
    doors = [door for door in arguments.doors if door != "http" or stage.target.http is not None]
    found: list[dict[str, Any]] = []

    def take(loads: Iterator[Measured]) -> None:
        for load, rounds in loads:
            found.append({**load, **figures(rounds, limits, others_limit=stage.quiet.limit)})
            print(table.line(found[-1]), flush=True)

    print(table.header(), flush=True)
    take(closed_loops(stage, plan, doors, arguments.concurrency))
    rate = arguments.rate or open_rate(found, arguments.rate_share)
    open_doors = [door for door in plan.open_doors if door in doors]
    take(open_loops(stage, plan, open_doors, rate, arguments.cancelled_share))
    return found


def main() -> None:
    """Runs everything and prints it."""
    arguments = _parser().parse_args()
    plan = QUICK if arguments.quick else FULL
    plan = replace(plan, rounds=arguments.rounds or plan.rounds)
    with ExitStack() as stack:
        found = run(open_stage(stack, arguments), plan, arguments)
    names = ("temperature", "first_token_limit_ms", "inter_token_limit_ms", "others_limit")
    record(
        "serving",
        arguments.model,
        arguments.output,
        max_tokens=plan.max_tokens,
        **{name: getattr(arguments, name) for name in (*names, "cancelled_share")},
        figures=found,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="FOLDER", help="a checkpoint")
    add("--quick", action="store_true", help="under a minute, on a quiet machine")
    add("--rounds", type=int, metavar="N", help="of each closed loop; 3, with --quick 1")
    add("--device", default="auto", help="where the model runs: cpu, cuda or auto, the default")
    add("--grpc", metavar="HOST:PORT", help="a product that runs already; absent: one is started")
    add("--http", metavar="URL", help="its HTTP door; absent: that door is left out")
    add("--doors", nargs="+", choices=list(DOORS), default=list(DOORS), help="all by default")
    clients = "clients of the closed loops: 1 8 32 by default"
    add("--concurrency", type=int, nargs="+", metavar="N", default=[1, 8, 32], help=clients)
    add("--temperature", type=float, metavar="X", default=0.0, help="0, the default, is greedy")
    rate = "requests a second of the open loops; absent: --rate-share"
    add("--rate", type=float, metavar="X", help=rate)
    rate = "the same, of what the closed loop finished (%(default)s)"
    add("--rate-share", type=float, metavar="X", default=0.7, help=rate)
    cancelled = "share of the open loops' requests that are cancelled (%(default)s)"
    add("--cancelled-share", type=float, metavar="X", default=0.2, help=cancelled)
    first = "a good request's first token comes within this (%(default)s)"
    add("--first-token-limit-ms", type=float, metavar="MS", default=2000.0, help=first)
    later = "its tokens take this on average (%(default)s)"
    add("--inter-token-limit-ms", type=float, metavar="MS", default=200.0, help=later)
    others = "share of the machine that others take in a quiet round (%(default)s)"
    add("--others-limit", type=float, metavar="X", default=0.1, help=others)
    patience = "longest wait for a quiet phase, each (%(default)s)"
    add("--patience-s", type=float, metavar="S", default=0.0, help=patience)
    add("--output", type=Path, metavar="FILE", help="also write the result to this file")
    return parser


if __name__ == "__main__":
    main()
