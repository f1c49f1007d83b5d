"""A stand-in for a service: `fake_service.py ROLE flags`; the folder in $FAKES says how it acts.

FOLDER/journal gets a line when it starts and when it ends in good order, FOLDER/ROLE.pid its id.
FOLDER/ROLE.acts holds how it acts: refuse, die, deaf, or nothing special.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

FOLDER = Path(os.environ["FAKES"])
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def main(role: str, flags: dict[str, str]) -> int:
    acts = FOLDER / f"{role}.acts"
    act = acts.read_text() if acts.exists() else ""
    _note(f"{role} starts")
    _write_whole(FOLDER / f"{role}.pid", str(os.getpid()))
    (FOLDER / f"{role}.flags").write_text(json.dumps(flags))
    if act == "refuse":
        sys.stdout.write("some log line\n")
        sys.stdout.flush()
        sys.stderr.write("python -m services.role: needs 99 GB of memory; 1 GB is available\n")
        return 2
    stop = threading.Event()
    if act == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
    inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    _write_whole(FOLDER / f"{role}.inner.pid", str(inner.pid))
    server, servicer = _serve(flags)
    signal.signal(signal.SIGUSR1, lambda *_: servicer.set("", _NOT_SERVING))
    signal.signal(signal.SIGUSR2, lambda *_: servicer.set("", _SERVING))
    if act == "die":
        sys.stdout.writelines(f"line {number}\n" for number in range(30))
        return 3
    stop.wait()
    server.stop(0)
    _note(f"{role} ends")
    return 0


def _serve(flags: dict[str, str]) -> tuple[grpc.Server, health.HealthServicer]:
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    servicer.set("", _SERVING)
    port = server.add_insecure_port(f"127.0.0.1:{flags.get('grpc-port', '0')}")
    server.start()
    names = {"port": port, "http_port": 1, "grpc_port": port, "metrics_port": 2}
    _write_whole(Path(flags["ready-file"]), json.dumps(names))
    return server, servicer


def _write_whole(path: Path, text: str) -> None:
    """Or not at all: a fake may be killed at any time."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


def _note(line: str) -> None:
    with (FOLDER / "journal").open("a") as journal:
        journal.write(line + "\n")


if __name__ == "__main__":
    pairs = (flag.removeprefix("--").partition("=")[::2] for flag in sys.argv[2:])
    sys.exit(main(sys.argv[1], dict(pairs)))
