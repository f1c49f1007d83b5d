"""`python3 -m benchmarks.gpu`: what `make gpu` runs; see the package. Standard library only."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.parts import PARTS, Context
from benchmarks.gpu.report import LOG_NAME, RESULT_NAME, TABLE_NAME, Report
from benchmarks.gpu.runner import run_parts

_LIMIT_S = 460.0  # of all parts: with what comes before and after, under 8 minutes


def main() -> int:
    """Runs the parts; 0 where all passed."""
    arguments = _parser().parse_args()
    names = arguments.part or list(PARTS)
    context = Context(
        device=arguments.device,
        wheels=arguments.wheels.absolute(),
        work=arguments.work.absolute(),
        shape=arguments.shape,
    )
    context.work.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["make", "gpu", f"DEVICE={arguments.device}", f"PART={' '.join(names)}"])
    report = Report(arguments.results, commit=arguments.commit or _commit(), command=command)
    log = arguments.results / LOG_NAME
    log.write_bytes(b"")
    passed = True
    for name, outcome in run_parts(PARTS, names, context, log=log, limit_s=arguments.limit_s):
        report.add(name, outcome)
        passed = passed and outcome.status == "passed"
        print(f"{name}: {outcome.status} after {outcome.seconds:.1f} s", flush=True)
        if outcome.error:
            print(outcome.error, flush=True)
    print((arguments.results / TABLE_NAME).read_text(encoding="utf-8"))
    print(f"in {arguments.results}: {RESULT_NAME}, {TABLE_NAME}, {LOG_NAME}")
    return 0 if passed else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.gpu")
    add = parser.add_argument
    add("--part", action="append", choices=list(PARTS), help="only this one; repeatable")
    add("--device", choices=["cuda", "cpu"], default="cuda")
    add("--shape", default="default", help="of the model: a name of tools/synthesize")
    add("--wheels", type=Path, default=Path(".wheels"), help="folder of carried wheels")
    add("--work", type=Path, default=Path(".cache/gpu"), help="what parts leave for each other")
    add("--results", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    add("--commit", help="what is measured, where there is no git")
    add("--limit-s", type=float, default=_LIMIT_S, help="for all parts together")
    return parser


def _commit() -> str:
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607  # whichever git
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return "unknown"
    return described.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
