"""A stream whose reader is interrupted."""

from __future__ import annotations

import signal
import threading

import pytest

import octavo
from octavo.cli.interruptible import interruptible
from octavo.errors import InvalidArgumentError
from tests.octavo.client.scripted_server import (
    ScriptedServer,
    accepted,
    chatter,
    delta,
    finished,
    usage,
)


def test_events_and_their_end_come_through(server: ScriptedServer) -> None:
    server.script = lambda request: iter([accepted(), delta("a"), finished(), usage()])
    with octavo.Client(server.address) as client, client.stream("Hi") as stream:
        names = [type(event).__name__ for event in interruptible(stream)]
    assert names == ["Accepted", "Delta", "Finished", "Usage"]


def test_a_failure_is_raised_where_events_are_read(server: ScriptedServer) -> None:
    server.script = lambda request: iter([accepted(), InvalidArgumentError("No.")])
    with (
        octavo.Client(server.address) as client,
        client.stream("Hi") as stream,
        pytest.raises(InvalidArgumentError),
    ):
        list(interruptible(stream))


def read_until_interrupted(client: octavo.Client, after_s: float) -> None:
    with client.stream("Hi") as stream:
        interrupt = threading.Timer(after_s, signal.raise_signal, [signal.SIGINT])
        for event in interruptible(stream):
            if isinstance(event, octavo.Accepted):
                interrupt.start()


def test_a_connection_can_be_used_after_each_of_many_interrupts(server: ScriptedServer) -> None:
    server.script = chatter
    with octavo.Client(server.address, timeout=20) as client:
        for turn in range(40):
            with pytest.raises(KeyboardInterrupt):
                read_until_interrupted(client, after_s=turn * 1e-4)
        server.script = lambda request: iter([accepted(), delta("well"), finished(), usage()])
        assert client.generate("Hi").text == "well"
