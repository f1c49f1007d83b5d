"""The instruction sets that kernels are built for, and which of them this CPU has."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class InstructionSet:
    """What a library is compiled for: flags of the compiler, and the CPU's flags that it needs."""

    name: str
    machine: str
    flags: tuple[str, ...]
    needs: frozenset[str]  # as /proc/cpuinfo spells them


_AVX512 = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vbmi", "avx512bf16")

# Best first.
INSTRUCTION_SETS = (
    InstructionSet(
        name="avx512bf16",
        machine="x86_64",
        flags=(*(f"-m{name}" for name in _AVX512), "-mfma", "-mprefer-vector-width=512"),
        needs=frozenset(
            ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vbmi", "avx512_bf16", "fma")
        ),
    ),
    InstructionSet(
        name="avx2",
        machine="x86_64",
        flags=("-mavx2", "-mfma", "-mf16c"),
        needs=frozenset(("avx2", "fma", "f16c")),
    ),
)


def supported() -> tuple[InstructionSet, ...]:
    """Those that this machine can run, best first."""
    flags = _cpu_flags()
    return tuple(
        one for one in INSTRUCTION_SETS if one.machine == platform.machine() and one.needs <= flags
    )


def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    lists = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Feat")))
    return frozenset(next(lists, ()))
