"""Our engine, step by step (_stepping.py): scheduler, model and sampling, and all that is Python.

python -m benchmarks._engine_stepped --model FOLDER --threads 2 [--device cpu]
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from pathlib import Path

from benchmarks._engine import build_engine
from benchmarks._stepping import serve
from services.worker.engine.engine import Engine
from services.worker.engine.request import Sampling, Submission
from services.worker.models import read_config


class SteppedEngine:
    """Implements `Stepped`; greedy, and no token ends a stream."""

    def __init__(self, engine: Engine, vocabulary_size: int) -> None:
        self._engine, self._vocabulary_size = engine, vocabulary_size
        self._keys, self._random = itertools.count(), random.Random(0)
        self._open: list[int] = []

    def open(self, streams: int, context: int) -> None:
        """Computes the prompts."""
        self._open = [self._submit(context) for _ in range(streams)]
        started: set[int] = set()
        while len(started) < streams:
            started |= {item.key for item in self._engine.step().items if item.token_ids}

    def decode(self, steps: int) -> dict[str, float]:
        """A token of every stream in each step."""
        start, num_tokens = time.perf_counter(), 0
        for _ in range(steps):
            num_tokens += sum(len(item.token_ids) for item in self._engine.step().items)
        assert num_tokens == steps * len(self._open)
        return {"tokens": num_tokens, "seconds": time.perf_counter() - start}

    def prefill(self, tokens: int) -> dict[str, float]:
        """From the submission to the first token."""
        start = time.perf_counter()
        key = self._submit(tokens)
        while not any(item.token_ids for item in self._engine.step().items):
            pass
        seconds = time.perf_counter() - start
        self._cancel([key])
        return {"tokens": tokens, "seconds": seconds}

    def close(self) -> None:
        """Cancels all streams."""
        self._cancel(self._open)
        self._open = []

    def _submit(self, num_tokens: int) -> int:
        key, draw = next(self._keys), self._random.randrange
        submission = Submission(
            key=key,
            request_id=str(key),
            prompt_ids=tuple(draw(self._vocabulary_size) for _ in range(num_tokens)),
            sampling=Sampling(temperature=0.0),
            arrived_at=time.monotonic(),
        )
        self._engine.submit(submission)
        return key

    def _cancel(self, keys: list[int]) -> None:
        self._engine.cancel(keys)
        while self._engine.has_work:
            self._engine.step()


def main() -> None:
    """Answers orders until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks._engine_stepped")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--kernels", default="auto")
    parser.add_argument("--kv-cache-gib", type=float, default=3.0)
    arguments = parser.parse_args()
    engine = build_engine(
        arguments.model,
        arguments.device,
        arguments.threads,
        kv_cache_memory_bytes=int(arguments.kv_cache_gib * 2**30),
        kernels=arguments.kernels,
    )
    serve(SteppedEngine(engine, read_config(arguments.model).vocab_size))


if __name__ == "__main__":
    main()
