"""The memory of the devices that a plan is made for."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from services.worker.front.preflight import available_memory
from services.worker.memory_plan import GIB

_NVIDIA_SMI = (
    *("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"),
)  # MiB, a line a device


@dataclass(frozen=True, kw_only=True, slots=True)
class Devices:
    """A kind of device. Ranks on a CPU share its memory."""

    name: str
    memory_bytes: int
    is_cpu: bool = False

    def bytes_of_each(self, num_devices: int) -> int:
        """What one of so many has."""
        return self.memory_bytes // num_devices if self.is_cpu else self.memory_bytes


# As the drivers of an H100 and of an H200 report them.
GPU_80_GB = Devices(name="80 GB", memory_bytes=int(79.65 * GIB))
GPU_141_GB = Devices(name="141 GB", memory_bytes=int(139.8 * GIB))


def this_machine() -> Devices:
    """Its smallest GPU, or without one the memory that is free now."""
    gpus = _gpu_memory()
    if gpus:
        return Devices(name="this machine's GPU", memory_bytes=min(gpus))
    return Devices(name="this machine", memory_bytes=available_memory(), is_cpu=True)


def _gpu_memory() -> list[int]:
    """Bytes of each GPU, as the driver's program says; empty without one."""
    try:
        done = subprocess.run(_NVIDIA_SMI, capture_output=True, text=True, timeout=5, check=True)
        return [int(line) * 2**20 for line in done.stdout.split()]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
