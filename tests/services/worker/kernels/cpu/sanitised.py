"""Kernels built to stop at a read or write beyond a buffer, and at undefined behaviour.

A process that preloads the address sanitizer tests these instead (conftest.py); its allocator puts
a guard behind each of torch's buffers. Not optimised, because compiling them is most of the time.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import torch

from services.worker.cpu_library.instruction_sets import InstructionSet

_FLAGS = ("-O0", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
_LIBRARIES = ("libasan.so", "libstdc++.so")  # whose exceptions the first must know
PRELOADED = "libasan" in os.environ.get("LD_PRELOAD", "")


def sanitised(instruction_set: InstructionSet) -> InstructionSet:
    """The same instructions, checked; a library of its own."""
    name, flags = f"{instruction_set.name}.sanitised", (*instruction_set.flags, *_FLAGS)
    return replace(instruction_set, name=name, flags=flags)


def preloading(compiler: str) -> dict[str, str] | None:
    """The variables of a process that can load such libraries; None: the compiler has none."""
    paths = [_library_of(compiler, name) for name in _LIBRARIES]
    if not all(Path(path).is_absolute() for path in paths):
        return None
    return {**os.environ, "LD_PRELOAD": " ".join(paths), "ASAN_OPTIONS": "detect_leaks=0"}


def _library_of(compiler: str, name: str) -> str:
    command = [compiler, f"-print-file-name={name}"]  # prints the bare name where there is none
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class GuardedMemory:
    """Each part an allocation of its own, where LargePages deals out parts of one."""

    def take(self, num_bytes: int) -> torch.Tensor:
        """Zeroed bytes, aligned to 64."""
        return torch.zeros(num_bytes, dtype=torch.uint8)
