"""Where the programs of the services are, and what a process that runs one inherits."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import octavo
from octavo.launcher.errors import EXIT_USAGE, LaunchError

_SERVICES = ("services/tokenizer", "services/worker", "gateway")


def services_root() -> Path:
    """The folder to import the services from: this repository, or wherever they can be found."""
    candidates = [Path(octavo.__file__).parents[1]]
    spec = importlib.util.find_spec("services")
    if spec is not None and spec.submodule_search_locations:
        candidates += [Path(location).parent for location in spec.submodule_search_locations]
    for root in candidates:
        if all((root / service / "__main__.py").is_file() for service in _SERVICES):
            return root
    raise LaunchError(
        "only Octavo's client is installed here; the services run from its repository (make serve) "
        "or its images (docker compose up)",
        EXIT_USAGE,
    )


def services_environment(root: Path | None) -> dict[str, str]:
    """Ours, with the services importable. The file of our settings is not the services'."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment.pop("OCTAVO_CONFIG", None)
    if root is not None:
        paths = [str(root), os.environ.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return environment
