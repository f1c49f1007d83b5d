"""`python -m services.worker.kernels.cpu.build`: compiles the kernels for this machine."""

from __future__ import annotations

import subprocess
import sys

from services.worker.cpu_library.compilation import build, find_compiler
from services.worker.cpu_library.instruction_sets import supported


def _say(what: str) -> None:
    sys.stdout.write(f"CPU kernels: {what}\n")


def main() -> int:
    """Builds what this machine can run; the exit status. Without a compiler nothing fails."""
    compiler = find_compiler()
    sets = supported()
    if not sets:
        _say("none for this machine; the reference backend runs, much slower")
        return 0
    if compiler is None:
        _say("no C++ compiler; the reference backend runs, much slower")
        return 0
    for instruction_set in sets:
        try:
            path = build(instruction_set, compiler)
        except subprocess.CalledProcessError as error:
            _say(f"{compiler} failed for {instruction_set.name}:\n{error.stderr}")
            return 1
        _say(f"{path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
