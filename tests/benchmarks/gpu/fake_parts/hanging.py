from __future__ import annotations

import subprocess
import sys
from typing import Any

from benchmarks.gpu.parts import Context


def run(context: Context) -> dict[str, Any]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    (context.work / "child.pid").write_text(str(child.pid))
    print("hanging runs")
    child.wait()
    return {}
