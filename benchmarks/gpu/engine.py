"""Part: the engine alone, taking in a prompt and decoding in batches.

A step of decoding reads every weight once, however few sequences it has: it cannot be faster than
the bytes of the weights, as the backend holds them, over the device's copy bandwidth.
`of_copy_bandwidth` is that floor over the measured step.
"""

from __future__ import annotations

import os
import time
from statistics import median
from typing import Any

from benchmarks._engine import build_engine
from benchmarks.gpu import model
from benchmarks.gpu.parts import Context

# ruff: isort: split
import torch  # after the engine, which says how threads wait

from benchmarks._bandwidth import copy_bytes_per_s
from services.worker.engine.engine import Engine
from services.worker.engine.request import Sampling, Submission
from services.worker.front.preflight import weight_bytes
from services.worker.held_weights import NumericChoices

BATCHES = (1, 8, 32, 64)
PROMPT_TOKENS = 512
CONTEXT_TOKENS = 128  # of each decoding sequence, at first
STEPS = {"cuda": 64, "cpu": 8}
WARM_UP_STEPS = 4


def run(context: Context) -> dict[str, Any]:
    """Medians of single steps."""
    model.run(context)
    device = torch.device(context.device)
    bandwidth = copy_bytes_per_s(device)
    engine = build_engine(context.model, context.device, os.cpu_count() or 1)
    num_bytes = weight_bytes(context.model, NumericChoices(kernels="reference"))
    prefill_s = prefill(engine)
    return {
        "copy_gigabytes_per_s": round(bandwidth / 1e9, 1),
        "weight_mebibytes": round(num_bytes / 2**20, 1),
        f"prefill_{PROMPT_TOKENS}_ms": round(1e3 * prefill_s, 2),
        f"prefill_{PROMPT_TOKENS}_tokens_per_s": round(PROMPT_TOKENS / prefill_s, 1),
        "decode": [
            _row(batch, decode(engine, batch, STEPS[device.type]), num_bytes / bandwidth)
            for batch in BATCHES
        ],
    }


def prefill(engine: Engine, repeats: int = 5) -> float:
    """Seconds from a prompt to its first token."""
    times = []
    for _ in range(repeats + 1):  # the first loads kernels
        engine.submit(_submission(0, PROMPT_TOKENS, max_tokens=1))
        start = time.perf_counter()
        _finish(engine)
        times.append(time.perf_counter() - start)
    return median(times[1:])


def decode(engine: Engine, batch: int, num_steps: int) -> float:
    """Seconds of one step of `batch` sequences; a step ends when its ids are on the host."""
    for key in range(batch):
        engine.submit(_submission(key, CONTEXT_TOKENS, max_tokens=1000))
    waiting = set(range(batch))
    while waiting:
        waiting -= {item.key for item in engine.step().items if item.token_ids}
    times = []
    for _ in range(WARM_UP_STEPS + num_steps):
        start = time.perf_counter()
        output = engine.step()
        times.append(time.perf_counter() - start)
        assert len(output.items) == batch, f"{len(output.items)} of {batch} sequences decoded"
    engine.cancel(range(batch))
    _finish(engine)
    return median(times[WARM_UP_STEPS:])


def _row(batch: int, step_s: float, floor_s: float) -> dict[str, Any]:
    return {
        "batch": batch,
        "step_ms": round(1e3 * step_s, 2),
        "tokens_per_s": round(batch / step_s, 1),
        "of_copy_bandwidth": round(floor_s / step_s, 4),
    }


def _finish(engine: Engine) -> None:
    while engine.has_work:
        engine.step()


def _submission(key: int, num_tokens: int, max_tokens: int) -> Submission:
    return Submission(
        key=key,
        request_id=str(key),
        prompt_ids=tuple(3 + (7 * key + n) % 250 for n in range(num_tokens)),
        sampling=Sampling(temperature=0.0),
        max_tokens=max_tokens,
        arrived_at=time.monotonic(),
    )
