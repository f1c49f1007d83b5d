"""Names that gain and lose addresses, with a stand-in for the resolver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import pytest_asyncio

from octavo.client.addresses import Target
from octavo.client.services.connection import Connection
from octavo.client.services.replicas import Replicas
from tests.gateway.waiting import until


class FakeConnection(Connection):
    """Is what the test says it is."""

    def __init__(self, address: str) -> None:
        super().__init__(address, "")
        self.idle = True
        self.connected = True
        self.is_started = False
        self.is_closed = False

    @property
    def is_idle(self) -> bool:
        return self.idle

    @property
    def is_connected(self) -> bool:
        return self.connected

    def start(self) -> None:
        self.is_started = True

    async def close(self) -> None:
        self.is_closed = True

    async def _describe(self, channel: object) -> None: ...
    async def _converse(self, channel: object) -> None: ...
    def _lose(self, cause: str) -> None: ...


class Names:
    """A resolver whose answers the test changes; a name without an answer is not found."""

    def __init__(self) -> None:
        self.addresses: dict[str, Sequence[str]] = {}
        self.num_asked = 0

    async def resolve(self, target: Target) -> Sequence[str]:
        self.num_asked += 1
        if target.host not in self.addresses:
            raise OSError("no such name")
        return self.addresses[target.host]

    async def asked_again(self) -> None:
        """Returns once an answer that was given after this call has had its effect."""
        seen = self.num_asked
        await until(lambda: self.num_asked > seen + 1)


class Found:
    """Replicas of a name and of an address, and all connections that they made."""

    def __init__(self) -> None:
        self.names = Names()
        self.made: list[FakeConnection] = []
        self.num_changes = 0
        self.replicas = Replicas(
            [Target("10.0.0.9", 1), Target("tokenizer", 1)],
            self._connect,
            resolve=self.names.resolve,
            interval_s=0.001,
        )

    def _connect(self, address: str) -> FakeConnection:
        self.made.append(FakeConnection(address))
        return self.made[-1]

    def note_change(self) -> None:
        self.num_changes += 1

    async def become(self, *hosts: str) -> None:
        """The name stands for these from now on."""
        self.names.addresses["tokenizer"] = [f"{host}:1" for host in hosts]
        await self.names.asked_again()

    @property
    def offered(self) -> list[str]:
        return [connection.address for connection in self.replicas]

    def at(self, address: str) -> FakeConnection:
        return next(one for one in reversed(self.made) if one.address == address)


@pytest_asyncio.fixture
async def found() -> AsyncIterator[Found]:
    made = Found()
    made.replicas.start(made.note_change)
    yield made
    await made.replicas.close()
    assert all(connection.is_closed for connection in made.made)


def when(connection: FakeConnection) -> Callable[[], bool]:
    return lambda: connection.is_closed


async def test_an_address_is_there_at_once_and_a_name_once_it_is_found(found: Found) -> None:
    assert found.offered == ["10.0.0.9:1"]
    assert found.at("10.0.0.9:1").is_started
    await found.become("10.0.0.1", "10.0.0.2")
    assert found.offered == ["10.0.0.9:1", "10.0.0.1:1", "10.0.0.2:1"]
    assert all(connection.is_started for connection in found.made)
    assert len(found.replicas) == 3 and found.replicas[1] is found.at("10.0.0.1:1")
    changes = found.num_changes
    found.at("10.0.0.2:1").on_change()
    assert found.num_changes == changes + 1


async def test_an_address_of_both_is_connected_to_once(found: Found) -> None:
    await found.become("10.0.0.9")
    assert found.offered == ["10.0.0.9:1"]
    assert len(found.made) == 1


async def test_what_vanished_and_is_idle_is_let_go(found: Found) -> None:
    await found.become("10.0.0.1", "10.0.0.2")
    await found.become("10.0.0.2")
    assert found.offered == ["10.0.0.9:1", "10.0.0.2:1"]
    await until(when(found.at("10.0.0.1:1")))
    assert not found.at("10.0.0.2:1").is_closed


async def test_what_vanished_finishes_what_it_has_unless_it_cannot_be_reached(found: Found) -> None:
    await found.become("10.0.0.1", "10.0.0.2")
    busy, lost = found.at("10.0.0.1:1"), found.at("10.0.0.2:1")
    busy.idle = lost.idle = False
    await found.become()
    assert found.offered == ["10.0.0.9:1"]
    assert not busy.is_closed and not lost.is_closed
    lost.connected = False
    await until(when(lost))
    assert not busy.is_closed
    busy.idle = True
    await until(when(busy))


async def test_what_returns_is_the_same_connection(found: Found) -> None:
    await found.become("10.0.0.1")
    busy = found.at("10.0.0.1:1")
    busy.idle = False
    await found.become()
    await found.become("10.0.0.1")
    assert found.replicas[1] is busy
    assert len(found.made) == 2


async def test_a_failed_look_up_changes_nothing(found: Found) -> None:
    await found.become("10.0.0.1")
    del found.names.addresses["tokenizer"]
    await found.names.asked_again()
    assert found.offered == ["10.0.0.9:1", "10.0.0.1:1"]
    await found.become("10.0.0.2")
    assert found.offered == ["10.0.0.9:1", "10.0.0.2:1"]
