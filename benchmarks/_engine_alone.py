"""The engine alone in a process of its own: no gateway, no tokenizer, no gRPC.

    python -m benchmarks._engine_alone --model FOLDER [--device cpu]

Reads orders as lines of JSON and answers each with one: what it made, in how many seconds. In
between it waits for the next line and uses no CPU.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks._engine import build_engine
from benchmarks._engine_process import Order
from octavo.bench.workload import Job
from services.worker.engine.engine import Engine
from services.worker.engine.request import Sampling, Submission


def closed_loop(engine: Engine, order: Order) -> dict[str, float]:
    """Runs an order; as soon as one job ends, the next is submitted."""
    start, num_tokens = time.monotonic(), 0
    jobs = itertools.islice(order.workload.jobs(), order.num_jobs)
    _submit(engine, itertools.islice(jobs, order.concurrency), order.temperature)
    while engine.has_work:
        for item in engine.step().items:
            num_tokens += len(item.token_ids)
            assert item.error is None, item.error
            if item.finish is not None:
                _submit(engine, itertools.islice(jobs, 1), order.temperature)
    seconds = time.monotonic() - start
    return {"tokens": num_tokens, "seconds": seconds, "tokens_per_s": num_tokens / seconds}


def _submit(engine: Engine, jobs: Iterator[Job], temperature: float) -> None:
    for job in jobs:
        submission = Submission(
            key=job.number,
            request_id=str(job.number),
            prompt_ids=job.prompt_ids,
            sampling=Sampling(temperature=temperature, seed=job.number),
            max_tokens=job.max_tokens,
            arrived_at=time.monotonic(),
        )
        engine.submit(submission)


def main() -> None:
    """Answers orders until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks._engine_alone")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    engine = build_engine(arguments.model, arguments.device, arguments.threads)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(closed_loop(engine, Order.from_json(line))), flush=True)


if __name__ == "__main__":
    main()
