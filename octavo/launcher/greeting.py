"""What is printed once the product serves: the addresses, and a request to each to copy."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

from octavo.client.defaults import DEFAULT_ADDRESS, DEFAULT_METRICS_ADDRESS

_QUESTION = "What is the capital of France?"
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing binds here

_TEXT = """\

{model} is served. Ctrl-C stops it; logs are in {logs}

  HTTP     http://{http}        as OpenAI's: /v1/chat/completions, /v1/completions, /v1/models
  gRPC     {grpc}               octavo.v1, with reflection and grpc.health.v1
  metrics  http://{metrics}/metrics

Talk to it, and see how busy it is:

  {command} chat{address}
  {command} status{metrics_address}

Ask over HTTP:

  curl -N http://{http}/v1/chat/completions -H 'Content-Type: application/json' \\
    -d {http_body}

over gRPC, with grpcurl:

  grpcurl -plaintext -d {grpc_body} \\
    {grpc} octavo.v1.GenerationService/StreamGenerate

or with Python:

{python} - <<'END'
import octavo
question = [{{"role": "user", "content": "{question}"}}]
with octavo.Client("{grpc}") as client:
    for text in client.stream(messages=question, temperature=0).text():
        print(text, end="", flush=True)
print()
END"""


def greeting(*, model: str, host: str, ports: dict[str, int], logs: str) -> str:
    """The text, for the ports that the gateway wrote down."""
    messages = [{"role": "user", "content": _QUESTION}]
    http_body = {"model": model, "messages": messages, "temperature": 0, "stream": True}
    grpc_body = {"chat": {"messages": messages}, "sampling": {"temperature": 0}}
    grpc = _address(host, ports["grpc_port"])
    metrics = _address(host, ports["metrics_port"])
    return _TEXT.format(
        model=model,
        logs=logs,
        http=_address(host, ports["http_port"]),
        grpc=grpc,
        command=_command(),
        address=_unless("--address", DEFAULT_ADDRESS, grpc),
        metrics_address=_unless("--metrics-address", DEFAULT_METRICS_ADDRESS, metrics),
        metrics=metrics,
        http_body=shlex.quote(json.dumps(http_body)),
        grpc_body=shlex.quote(json.dumps(grpc_body)),
        python=shlex.quote(sys.executable),
        question=_QUESTION,
    )


def gateway_address(host: str, ports: dict[str, int]) -> str:
    """Where the gateway's gRPC can be reached from this machine."""
    return _address(host, ports["grpc_port"])


def _command() -> str:
    """How a shell finds `octavo`: by name only where its path leads to this installation."""
    ours = str(Path(sys.executable).with_name("octavo"))
    return (
        "octavo" if shutil.which("octavo") == ours else f"{shlex.quote(sys.executable)} -m octavo"
    )


def _unless(flag: str, default: str, address: str) -> str:
    """The flag that a command needs to find this server."""
    return "" if address == default else f" {flag} {address}"


def _address(host: str, port: int) -> str:
    host = _EVERYWHERE.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
