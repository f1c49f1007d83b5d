"""Starts the services as real processes and tells where they listen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2  # type: ignore[import-untyped] # has no stubs
from grpc_status import rpc_status

from octavo.v1 import (
    generation_pb2,
    generation_pb2_grpc,
    tokenizer_pb2,
    tokenizer_pb2_grpc,
    worker_pb2,
    worker_pb2_grpc,
)

REPOSITORY = Path(__file__).parents[2]


def wait_until(condition: Any, what: str, timeout_s: float = 60.0) -> None:
    """Polls a condition that another process changes."""
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at, f"after {timeout_s} s still not so: {what}"
        time.sleep(0.01)


@dataclass
class Service:
    """One process of the product; `ports` is what it wrote into its ready file."""

    module: str
    arguments: list[str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.module}.log"

    def start(self, **fixed_ports: int) -> None:
        """Starts the process and waits until its listener is bound."""
        ready = self.folder / f"{self.module}.ready.json"
        ready.unlink(missing_ok=True)
        flags = [f"--{name.replace('_', '-')}={port}" for name, port in fixed_ports.items()]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, *self.arguments, *flags]
                + ["--ready-file", str(ready)],
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        wait_until(lambda: ready.exists() or self.process_ended(), f"{self.module} listens")
        assert ready.exists(), self.log.read_text()[-4000:]
        self.ports = json.loads(ready.read_text())

    def process_ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """Ends the process without a word, as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def terminate(self, timeout_s: float = 30.0) -> int:
        """Ends the process as an operator would; its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


# At a person's pace: the compiled kernels end an answer of the tiny model before a test can act.
SLOWLY = "--kernels=reference"


class Product:
    """Gateway, tokenizers and worker group around one model folder."""

    def __init__(
        self, model: Path, folder: Path, *worker_flags: str, num_tokenizers: int = 1
    ) -> None:
        shared = ["--model", str(model), "--port=0", "--metrics-port=0"]
        folders = [folder / f"tokenizer-{number}" for number in range(num_tokenizers)]
        for needed in (folder, *folders):
            needed.mkdir(parents=True, exist_ok=True)
        self.tokenizers = [Service("services.tokenizer", shared, own) for own in folders]
        self.tokenizer = self.tokenizers[0]
        self.worker = Service("services.worker", [*shared, *worker_flags], folder)
        self.gateway = Service("gateway", [], folder)

    def start(self) -> None:
        """Starts everything and waits until requests are served."""
        for tokenizer in self.tokenizers:
            tokenizer.start()
        self.worker.start()
        self.gateway.arguments = [
            "--http-port=0",
            "--grpc-port=0",
            "--metrics-port=0",
            f"--worker=127.0.0.1:{self.worker.ports['port']}",
            *(f"--tokenizer=127.0.0.1:{one.ports['port']}" for one in self.tokenizers),
        ]
        self.gateway.start()
        wait_until(lambda: self.health() == 200 or self.worker.process_ended(), "healthy", 120)
        assert self.health() == 200, self.worker.log.read_text()[-4000:]

    def restart(self, service: Service) -> None:
        """Starts a service again where it was."""
        service.start(port=service.ports["port"])

    def stop(self) -> dict[str, int]:
        """Ends everything; the exit status of each process that was still there."""
        services = [self.gateway, self.worker, *self.tokenizers]
        running = [service for service in services if service.process is not None]
        return {str(service.log): service.terminate() for service in running}

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.gateway.ports['http_port']}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.gateway.ports['grpc_port']}"

    def health(self) -> int:
        """The HTTP status of /health."""
        try:
            with urllib.request.urlopen(f"{self.http}/health", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    @contextmanager
    def generation(self) -> Iterator[generation_pb2_grpc.GenerationServiceStub]:
        """A stub of the public service."""
        with grpc.insecure_channel(self.grpc) as channel:
            yield generation_pb2_grpc.GenerationServiceStub(channel)

    def load(self) -> worker_pb2.Load:
        """The worker group's load as of its last step."""
        with grpc.insecure_channel(f"127.0.0.1:{self.worker.ports['port']}") as channel:
            stub = worker_pb2_grpc.WorkerServiceStub(channel)
            return stub.GetHealth(worker_pb2.GetHealthRequest()).load

    def encode(self, text: str) -> list[int]:
        """The ids of a text, straight from the tokenizer service."""
        with grpc.insecure_channel(f"127.0.0.1:{self.tokenizer.ports['port']}") as channel:
            stub = tokenizer_pb2_grpc.TokenizerServiceStub(channel)
            answer = stub.Encode(tokenizer_pb2.EncodeRequest(texts=[text]))
            return list(answer.encodings[0].token_ids)


def greedy(
    token_ids: list[int], max_tokens: int, *, ignore_eos: bool = True
) -> generation_pb2.GenerateRequest:
    """A greedy request for ids, without text."""
    return generation_pb2.GenerateRequest(
        token_ids=generation_pb2.TokenIds(ids=token_ids),
        sampling=generation_pb2.SamplingParameters(temperature=0),
        stopping=generation_pb2.StoppingParameters(max_tokens=max_tokens, ignore_eos=ignore_eos),
        output=generation_pb2.OutputOptions(text=False, token_ids=True),
    )


def chat(content: str, **stopping: Any) -> generation_pb2.GenerateRequest:
    """A greedy conversation of one user message."""
    return generation_pb2.GenerateRequest(
        chat=generation_pb2.ChatInput(
            messages=[generation_pb2.ChatMessage(role="user", content=content)]
        ),
        sampling=generation_pb2.SamplingParameters(temperature=0),
        stopping=generation_pb2.StoppingParameters(**stopping),
    )


def ids_of(answer: generation_pb2.GenerateResponse) -> list[int]:
    """The generated ids of a whole answer with one output."""
    return [token.id for token in answer.outputs[0].tokens]


def reason_of(error: Any) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """Code, reason and metadata of a call that failed."""
    status = rpc_status.from_call(error)
    assert status is not None, error
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return error.code(), info.reason, dict(info.metadata)
