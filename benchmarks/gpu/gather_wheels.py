"""The wheels that `make gpu` needs and a machine with torch lacks: `make gpu-wheels`.

    python -m benchmarks.gpu.gather_wheels --output .wheels [--python-version 3.12]

What octavo, gateway and tokenizer need, and what the tests and benchmarks that run there need, in
the versions of constraints.txt, for that machine's Python. Torch and its own needs are there.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

_REPOSITORY = Path(__file__).parents[2]
_EXTRAS = ("gateway", "tokenizer")
_TOOLS = ("httpx", "hypothesis", "psutil", "pytest", "pytest-asyncio", "pytest-timeout")  # of dev
_PLATFORMS = tuple(f"manylinux_2_{n}_x86_64" for n in (39, 35, 34, 31, 28, 27, 26, 24, 17))
_OLD_PLATFORMS = ("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64")


def main() -> None:
    """Downloads them into the folder; ends with status 1 where they are too large to carry."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.gather_wheels")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--python-version", default="3.12")
    parser.add_argument("--limit-mebibytes", type=float, default=56.0)
    arguments = parser.parse_args()
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    for old in output.glob("*.whl"):
        old.unlink()
    _download(output, arguments.python_version)
    wheels = sorted(output.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels) / 2**20
    print(f"{len(wheels)} wheels, {size:.1f} MiB, in {output}")
    if size > arguments.limit_mebibytes:
        raise SystemExit(f"that is more than {arguments.limit_mebibytes} MiB")


def requirements() -> Iterator[str]:
    """What pyproject.toml says, one requirement each."""
    project = tomllib.loads((_REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    yield from project["dependencies"]
    for extra in _EXTRAS:
        yield from extras[extra]
    yield from (need for need in extras["dev"] if _project_of(need) in _TOOLS)


def _download(output: Path, python_version: str) -> None:
    platforms = [f"--platform={name}" for name in (*_PLATFORMS, *_OLD_PLATFORMS)]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    subprocess.run(
        [
            *command,
            "--only-binary=:all:",
            f"--python-version={python_version}",
            "--implementation=cp",
            *platforms,
            f"--constraint={_REPOSITORY / 'constraints.txt'}",
            f"--dest={output}",
            *requirements(),
        ],
        check=True,
    )


def _project_of(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()


if __name__ == "__main__":
    main()
