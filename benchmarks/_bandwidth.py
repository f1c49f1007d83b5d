"""How fast a device copies its own memory: what a step that reads all weights is held against."""

from __future__ import annotations

import time
from statistics import median

import torch

_BYTES = {"cuda": 2 * 2**30, "cpu": 256 * 2**20}  # far past the caches
_REPEATS = 10


def copy_bytes_per_s(device: torch.device) -> float:
    """Bytes read and written in a second by a large copy; the median of ten."""
    source = torch.randint(0, 255, (_BYTES[device.type],), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = []
    for _ in range(_REPEATS + 2):
        synchronize(device)
        start = time.perf_counter()
        target.copy_(source)
        synchronize(device)
        times.append(time.perf_counter() - start)
    return 2 * source.numel() / median(times[2:])


def synchronize(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
