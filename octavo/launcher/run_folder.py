"""Where one run keeps its logs and ready files."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from octavo.launcher.errors import EXIT_USAGE, LaunchError

_KEPT_RUNS = 5
_PREFIX = "serve-"


def new_run_folder(base: Path | None) -> Path:
    """A new folder under `base`, or under the user's folder for state; old runs are removed."""
    base = (base or _default_base()).absolute()
    folder = base / f"{_PREFIX}{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise LaunchError(
            f"cannot keep logs in {base}: {error.strerror} (--log-folder names another)", EXIT_USAGE
        ) from error
    for old in sorted(base.glob(f"{_PREFIX}*"))[:-_KEPT_RUNS]:
        if not _is_in_use(old):
            shutil.rmtree(old, ignore_errors=True)
    return folder


def _is_in_use(folder: Path) -> bool:
    """Whether the run that made it may be running: its process id ends the name."""
    return Path("/proc", folder.name.rpartition("-")[2]).exists()


def _default_base() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "octavo" / "logs"
