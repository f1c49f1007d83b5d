"""The engine alone in a process of its own: no gateway, no tokenizer, no gRPC.

    python -m benchmarks._engine_alone --model FOLDER [--device cpu]

Reads orders as lines of JSON and answers each with one: what it made, in how many seconds. In
between it waits for the next line and uses no CPU. Its limits are those that a worker group has by
default, and its threads wait as a rank's do.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks._engine_process import Order
from octavo.bench.workload import Job
from services.worker.config import WorkerSettings
from services.worker.rank.thread_waiting import thread_waiting

os.environ.update(thread_waiting(os.environ))

from services.worker.engine.engine import Engine
from services.worker.engine.engine_config import EngineConfig, count_kv_blocks
from services.worker.engine.request import Sampling, Submission
from services.worker.front.preflight import DEFAULT_MAX_KV_CACHE_BYTES
from services.worker.models import Model, load_model
from services.worker.rank.loading import choose_device


def build_engine(folder: Path, device: str, threads: int) -> Engine:
    """As a rank builds it."""
    settings = WorkerSettings(model=folder)
    model = load_model(folder, device=choose_device(device), dtype=None, num_threads=threads)
    return Engine(model=model, config=_engine_config(settings, model))


def _engine_config(settings: WorkerSettings, model: Model) -> EngineConfig:
    return EngineConfig(
        num_blocks=count_kv_blocks(
            kv_cache_memory_bytes=DEFAULT_MAX_KV_CACHE_BYTES,
            bytes_per_block=model.kv_bytes_per_block(settings.block_tokens),
            block_tokens=settings.block_tokens,
            max_running=settings.max_running,
            max_context=model.config.max_context,
        ),
        block_tokens=settings.block_tokens,
        max_step_tokens=settings.max_step_tokens,
        max_running=settings.max_running,
        max_waiting=settings.max_waiting,
        max_waiting_prompt_tokens=settings.max_waiting_prompt_tokens,
        max_context=model.config.max_context,
    )


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
