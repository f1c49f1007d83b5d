"""Our engine, step by step (_stepping.py): scheduler, model and sampling, and all that is Python.

    python -m benchmarks._engine_stepped --model FOLDER --threads 2 [--device cpu]

Works only while an order runs.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from pathlib import Path

import torch

from benchmarks._engine import build_engine
from benchmarks._stepping import serve
from services.worker.engine.engine import Engine
from services.worker.engine.request import Sampling, Submission
from services.worker.held_weights import NumericChoices, held_on_cpu, held_tensors
from services.worker.kernels.cpu.large_pages import large_zeros
from services.worker.memory_plan import kv_bytes_per_token
from services.worker.models import read_config
from services.worker.stored_tensors import read_stored_tensors

EMBEDDINGS = "model.embed_tokens.weight"  # of which a step reads a row for each token


class SteppedEngine:
    """Implements `Stepped`; greedy, and no token ends a stream."""

    def __init__(self, engine: Engine, folder: Path, kernels: str) -> None:
        self._engine, self._folder, self._kernels = engine, folder, kernels
        self._vocabulary_size = read_config(folder).vocab_size
        self._memory: torch.Tensor | None = None
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

    def read(self) -> dict[str, float]:
        """A plain sum over a gibibyte, by all threads: what the memory gives."""
        if self._memory is None:
            self._memory = large_zeros((2**28,), torch.float32).fill_(1)
        start = time.perf_counter()
        self._memory.sum()
        return {"bytes": self._memory.nbytes, "seconds": time.perf_counter() - start}

    def held(self) -> dict[str, float]:
        """Bytes that a step on a CPU reads of the weights; what a token's keys and values take."""
        config = read_config(self._folder)
        form = held_on_cpu(config, NumericChoices(kernels=self._kernels))
        held = held_tensors(config, read_stored_tensors(self._folder), form)
        weights = sum(size for tensor, size in held if tensor.name != EMBEDDINGS)
        per_token = kv_bytes_per_token(config, num_devices=1, element_bytes=2)
        return {"step_bytes": weights, "kv_bytes_per_token": per_token}

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
    serve(SteppedEngine(engine, arguments.model, arguments.kernels))


if __name__ == "__main__":
    main()
