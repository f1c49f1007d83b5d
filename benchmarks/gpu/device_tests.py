"""Part: the tests that can use a device, on that device."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.gpu.parts import Context

# Named, so that nothing is imported that this machine lacks.
_FOLDERS = [f"tests/services/worker/{part}" for part in ("engine", "kernels", "layers", "models")]
_PLUGINS = ["-p", "pytest_asyncio.plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider"]
_COUNT = re.compile(r'(tests|failures|errors|skipped)="(\d+)"')


def run(context: Context) -> dict[str, Any]:
    """How many there are, failed and were skipped; raises where one failed."""
    flags = ["-m", "device and not slow", f"--device={context.device}", "-q", "--durations=5"]
    with tempfile.TemporaryDirectory(prefix="octavo-gpu-") as folder:
        report = Path(folder) / "report.xml"
        done = subprocess.run(
            # Warnings of other versions than ours fail no test here.
            [sys.executable, "-m", "pytest", *_PLUGINS, *flags, "-W", "default"]
            + [f"--junitxml={report}", *_FOLDERS],
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # whatever is installed here
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"pytest ended with status {done.returncode}")
        head = report.read_text(encoding="utf-8").partition("<testcase")[0]
    return {name: int(count) for name, count in _COUNT.findall(head)}
