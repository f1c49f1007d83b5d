"""What is checked before anything starts: every problem is one line and exit status 2."""

from __future__ import annotations

import socket
from pathlib import Path

from octavo.launcher.errors import EXIT_USAGE, LaunchError
from octavo.launcher.settings import ServeSettings


def check(settings: ServeSettings) -> None:
    """Raises LaunchError for the first thing that cannot work."""
    if settings.model is not None:
        _check_model(settings.model)
    flags = {
        "--http-port": settings.http_port,
        "--grpc-port": settings.grpc_port,
        "--metrics-port": settings.metrics_port,
    }
    taken: dict[int, str] = {}
    for flag, port in flags.items():
        if port in taken:
            raise LaunchError(f"{flag} and {taken[port]} are both {port}", EXIT_USAGE)
        if port:
            taken[port] = flag
            _check_port(flag, settings.host, port)


def _check_model(folder: Path) -> None:
    if not folder.is_dir():
        problem = "is no folder" if folder.exists() else "does not exist"
        raise LaunchError(f"--model {folder} {problem}", EXIT_USAGE)
    if not (folder / "config.json").is_file():
        raise LaunchError(f"--model {folder} holds no config.json", EXIT_USAGE)


def _check_port(flag: str, host: str, port: int) -> None:
    """Binds the port for a moment; no other process that listens on it goes unseen."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT is no listener
            probe.bind(address)
    except socket.gaierror as error:
        raise LaunchError(f"--host {host}: {error.strerror}", EXIT_USAGE) from error
    except OSError as error:
        raise LaunchError(f"{flag} {port} on {host}: {error.strerror}", EXIT_USAGE) from error
