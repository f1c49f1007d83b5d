"""Part: an environment with what the machine's Python lacks, from the carried wheels.

What the machine has already stays where its version is one that pyproject.toml allows: its torch,
built for its GPU, above all. No network is used.
"""

from __future__ import annotations

import site
import subprocess
import sysconfig
import venv
from pathlib import Path
from typing import Any

from benchmarks.gpu.gather_wheels import requirements
from benchmarks.gpu.parts import Context


def run(context: Context) -> dict[str, Any]:
    """Makes the environment anew; without wheels, the machine's Python has to do."""
    wheels = list(context.wheels.glob("*.whl")) if context.wheels.is_dir() else []
    if not wheels:
        return {"wheels": 0, "installed": 0, "note": "this Python has to have everything"}
    builder = venv.EnvBuilder(system_site_packages=True, clear=True, symlinks=True)
    builder.create(context.site)
    packages = _packages_folder(context.site)
    # The machine's Python may be a virtual environment itself: its packages are not the system's.
    lines = [f"import site; site.addsitedir({folder!r})" for folder in site.getsitepackages()]
    (packages / "machine.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    flags = ["--no-index", f"--find-links={context.wheels}", "--no-compile"]
    install = [str(context.python), "-m", "pip", "--disable-pip-version-check", "install", *flags]
    subprocess.run([*install, *requirements()], check=True)
    subprocess.run([str(context.python), "-c", "import torch, grpc, pytest"], check=True)
    return {"wheels": len(wheels), "installed": len(list(packages.glob("*.dist-info")))}


def _packages_folder(environment: Path) -> Path:
    variables = {"base": str(environment), "platbase": str(environment)}
    return Path(sysconfig.get_path("purelib", "venv", vars=variables))
