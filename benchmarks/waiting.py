"""How OpenMP's threads should wait for each other: the product, alone and beside a neighbour.

    python -m benchmarks.waiting --model FOLDER [--rounds 5] [--output benchmarks/results/x.json]

Regime: one `octavo serve` for each way of waiting, all started first; they use no CPU while they
wait for requests. Then rounds in which the ways take turns: 1 and 8 clients stream greedy answers,
and once all have their first token, texts are counted for two seconds; alone, and beside a process
that counts and keeps one core busy. A figure is the median over rounds; a round in which yet others
took too much of the machine is left out where a quiet one remains, and not begun with --patience-s.
Read with docs/decisions/0005. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks._machine import Processes, measured, wait_until_quiet
from benchmarks._product import Product, running_product
from benchmarks._record import record
from octavo.rpc.channel import open_channel
from octavo.v1 import generation_pb2 as pb
from octavo.v1.generation_pb2_grpc import GenerationServiceStub

# libgomp counts about 100,000 spins to a millisecond; 300,000 is what it does where nothing is set.
WAYS: dict[str, dict[str, str]] = {
    "as it comes": {"GOMP_SPINCOUNT": "300000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}
CLIENTS = (1, 8)
WINDOW_S = 2.0
FIRST_TOKEN_LIMIT_S = 10.0  # a way that takes longer gets the rate that it has by then
FLAGS = ("--kv-cache-memory-bytes=200000000", "--device=cpu")

Figures = dict[tuple[int, int, str], list[tuple[float, float]]]  # tokens/s, others' share


@contextmanager
def neighbours(count: int) -> Iterator[list[psutil.Process]]:
    """Processes that each keep one core busy."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield [psutil.Process(process.pid) for process in busy]
    finally:
        for process in busy:
            process.kill()
            process.wait()


async def streamed(product: Product, clients: int, ours: Processes) -> tuple[float, float]:
    """Tokens a second while `clients` answers are streamed, and others' share of the machine."""
    arrivals = [0] * clients
    async with open_channel(product.grpc) as channel:
        stub = GenerationServiceStub(channel)

        async def read(client: int) -> None:
            async for event in stub.StreamGenerate(_request(client)):
                arrivals[client] += bool(event.delta.text)

        readers = [asyncio.create_task(read(client)) for client in range(clients)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_TOKEN_LIMIT_S):
                while not all(arrivals):  # noqa: ASYNC110 - the answers decide
                    await asyncio.sleep(0.01)
        with measured(ours) as usage:
            before = sum(arrivals)
            await asyncio.sleep(WINDOW_S)
            num_tokens = sum(arrivals) - before
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
    return num_tokens / usage.seconds, usage.others_share


def _request(client: int) -> pb.GenerateRequest:
    return pb.GenerateRequest(
        token_ids=pb.TokenIds(ids=range(1000 + 50 * client, 1010 + 50 * client)),
        sampling=pb.SamplingParameters(temperature=0),
        stopping=pb.StoppingParameters(max_tokens=1000, ignore_eos=True),
    )


def measure(products: dict[str, Product], arguments: argparse.Namespace) -> Figures:
    """Every way in turn, every combination in every round. A Ctrl-C ends it with what there is."""
    figures: Figures = {}
    ours: dict[str, list[psutil.Process]] = {"client": [psutil.Process()]}
    for name, product in products.items():
        ours[name] = [one for group in product.processes().values() for one in group]
    rounds = itertools.product(range(arguments.rounds), (0, 1), CLIENTS, products)
    with contextlib.suppress(KeyboardInterrupt):
        for number, num_neighbours, clients, name in rounds:
            phase = f"round {number + 1}, {num_neighbours} neighbours, {clients} clients, {name}"
            if not wait_until_quiet(
                ours, limit=arguments.others_limit, patience_s=arguments.patience_s
            ):
                print(f"{phase}: left out, others are busy", flush=True)
                continue
            with neighbours(num_neighbours) as busy:
                rate, share = asyncio.run(
                    streamed(products[name], clients, {**ours, "neighbour": busy})
                )
            figures.setdefault((num_neighbours, clients, name), []).append((rate, share))
            print(f"{phase}: {rate:.1f} tokens/s, others {share:.2f}", flush=True)
    return figures


def summarise(figures: Figures, others_limit: float) -> list[dict[str, Any]]:
    """Medians over the quiet rounds of each combination; over all where none was quiet."""
    summary = []
    for (num_neighbours, clients, name), rounds in figures.items():
        quiet = [rate for rate, share in rounds if share <= others_limit]
        rates = quiet or [rate for rate, _ in rounds]
        summary.append(
            {
                "neighbours": num_neighbours,
                "clients": clients,
                "way": name,
                "tokens_per_s": round(median(rates), 1),
                "quiet_rounds": len(quiet),
                "rounds": len(rounds),
            }
        )
    return summary


def main() -> None:
    """Runs the comparison and prints it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting")
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--others-limit", type=float, default=0.1)
    parser.add_argument("--patience-s", type=float, default=0.0, help="for a quiet start, each")
    parser.add_argument("--output", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    with ExitStack() as stack:
        products = {
            name: stack.enter_context(
                running_product(arguments.model, *FLAGS, environment=inherited | way)
            )
            for name, way in WAYS.items()
        }
        figures = measure(products, arguments)
    summary = summarise(figures, arguments.others_limit)
    for figure in summary:
        print(
            "{neighbours} neighbours, {clients} clients, {way}: {tokens_per_s} tokens/s"
            " ({quiet_rounds} of {rounds} rounds were quiet)".format(**figure)
        )
    record("waiting", arguments.model, arguments.output, ways=WAYS, figures=summary)


if __name__ == "__main__":
    main()
