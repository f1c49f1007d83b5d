"""Part: what the device is, and how fast it copies its memory."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks._bandwidth import copy_bytes_per_s
from benchmarks.gpu.parts import Context


def run(context: Context) -> dict[str, Any]:
    """Size, capability, and copy bandwidth counting bytes read and written."""
    device = torch.device(context.device)
    figures: dict[str, Any] = {"copy_gigabytes_per_s": round(copy_bytes_per_s(device) / 1e9, 1)}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        figures |= {
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory_gibibytes": round(properties.total_memory / 2**30, 1),
        }
    return figures
