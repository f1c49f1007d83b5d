"""Compiles the kernels; where the libraries lie.

A library's name holds a fingerprint of its sources and flags: one that is stale is never loaded,
and one that is there is not built again. Plain C++17 without headers of torch: it takes seconds.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from services.worker.cpu_library.instruction_sets import InstructionSet

_KERNELS = Path(__file__).parents[1] / "kernels" / "cpu"
_SOURCES = _KERNELS / "native"
_LIBRARIES = _KERNELS / "libraries"
_FLAGS = (
    "-O3",
    "-std=c++17",
    "-fPIC",
    "-shared",
    "-pthread",
    "-fno-math-errno",
    "-ffp-contract=off",
)


def library_path(instruction_set: InstructionSet) -> Path:
    """Where the library of these sources lies, once it is built."""
    digest = hashlib.sha256(" ".join((*_FLAGS, *instruction_set.flags)).encode())
    for source in sorted(_SOURCES.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return _LIBRARIES / f"{instruction_set.name}-{digest.hexdigest()[:16]}.so"


def build(instruction_set: InstructionSet, compiler: str) -> Path:
    """Compiles one library; raises CalledProcessError where the compiler refuses."""
    path = library_path(instruction_set)
    if path.exists():
        return path
    _LIBRARIES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_LIBRARIES) as folder:
        unfinished = Path(folder) / path.name
        sources = sorted(str(source) for source in _SOURCES.glob("*.cpp"))
        command = [compiler, *_FLAGS, *instruction_set.flags, *sources, "-o", str(unfinished)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        unfinished.rename(path)  # whole or not at all: others may build it too
    for stale in _LIBRARIES.glob(f"{instruction_set.name}-*.so"):
        if stale != path:
            stale.unlink(missing_ok=True)
    return path


def find_compiler() -> str | None:
    """$CXX, or the first of the usual names that is there."""
    names = [name for name in (os.environ.get("CXX"), "g++", "clang++", "c++") if name]
    return next((path for name in names if (path := shutil.which(name))), None)
