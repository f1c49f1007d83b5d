"""An engine in a child process that works only when it is told to, and says what it did.

Orders and answers are lines of JSON. `open`: so many streams, each with a prompt of so many random
ids, ready to decode. `decode`: so many steps of all open streams. `close`: forgets them. `prefill`:
one prompt of so many ids, up to its first token. Answers to the last and to `decode` say how many
tokens were computed, in how many seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Protocol

import psutil


class Stepped(Protocol):
    """What a child does."""

    def open(self, streams: int, context: int) -> None:
        """Prompts of `context` ids for each of `streams`, computed, with a first token each."""

    def decode(self, steps: int) -> dict[str, float]:
        """Steps of all open streams: tokens and seconds, and what else the child knows."""

    def prefill(self, tokens: int) -> dict[str, float]:
        """A prompt of so many ids: tokens and seconds."""

    def close(self) -> None:
        """Forgets what is open."""


def serve(stepped: Stepped) -> None:
    """In the child: answers orders until stdin ends."""
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        answer = getattr(stepped, order.pop("do"))(**order)
        print(json.dumps(answer or {}), flush=True)


class SteppingProcess:
    """The parent's end."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        assert child.stdin is not None and child.stdout is not None
        self._orders, self._answers = child.stdin, child.stdout
        self.process = psutil.Process(child.pid)
        if self._answers.readline() != "ready\n":
            raise SystemExit(f"an engine did not start: {child.args!r}")

    def ask(self, do: str, **arguments: int) -> dict[str, Any]:
        """Waits for the answer to one order."""
        self._orders.write(json.dumps({"do": do, **arguments}) + "\n")
        self._orders.flush()
        line = self._answers.readline()
        if not line:
            raise SystemExit(f"the engine ended while it did {do} {arguments}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def stepping(
    command: Sequence[str], variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[SteppingProcess]:
    """Starts a child, with further environment variables, and ends it."""
    environment = os.environ | dict(variables)
    with subprocess.Popen(
        list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as child:
        try:
            yield SteppingProcess(child)
        finally:
            child.kill()
