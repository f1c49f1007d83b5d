"""The replicas of one service: a connection to each address behind what the operator named.

A name may stand for many addresses (compose --scale, a Kubernetes headless service), so it is
looked up again and again. What is new is connected to. What vanished gets nothing new, and is let
go once nothing is open on it or it cannot be reached. A look-up that fails changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar, overload

import structlog

from octavo.client.addresses import Resolve, Target, resolve
from octavo.client.services.connection import Connection, ignore

log = structlog.get_logger()

LOOK_UP_INTERVAL_S = 5.0
_HASTE = 10  # a name that stands for nothing is looked up so many times as often

ConnectionT = TypeVar("ConnectionT", bound=Connection)


class Replicas(Sequence[ConnectionT]):
    """The connections that may be given new work, in the order in which they were found."""

    def __init__(
        self,
        targets: Sequence[Target],
        connect: Callable[[str], ConnectionT],
        *,
        resolve: Resolve = resolve,
        interval_s: float = LOOK_UP_INTERVAL_S,
    ) -> None:
        """`connect` makes the connection to an address; it is started here."""
        self._on_change: Callable[[], None] = ignore
        self._connect = connect
        self._resolve = resolve
        self._interval_s = interval_s
        self._addresses: dict[Target, Sequence[str]] = dict.fromkeys(targets, ())
        self._current: tuple[ConnectionT, ...] = ()  # replaced whole: another thread may read it
        self._vanished: list[ConnectionT] = []
        self._followers: list[asyncio.Task[None]] = []

    @overload
    def __getitem__(self, index: int) -> ConnectionT: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ConnectionT]: ...
    def __getitem__(self, index: int | slice) -> ConnectionT | Sequence[ConnectionT]:
        return self._current[index]

    def __len__(self) -> int:
        return len(self._current)

    def start(self, on_change: Callable[[], None]) -> None:
        """Connects to the addresses and looks up the names from now on; `on_change` hears of every
        change of what serves.
        """
        self._on_change = on_change
        for target in self._addresses:
            if target.is_address:
                self._addresses[target] = [str(target)]
            else:
                follower = asyncio.create_task(self._follow(target), name=f"follow {target}")
                self._followers.append(follower)
        self._update()

    async def close(self) -> None:
        """Ends all connections; what is open on them is lost."""
        for follower in self._followers:
            follower.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)
        await _close([*self._current, *self._vanished])

    async def _follow(self, target: Target) -> None:
        failed = False
        while True:
            try:
                self._addresses[target] = await self._resolve(target)
                failed = False
            except OSError as error:
                if not failed:  # said once, not every few seconds
                    log.warning("look-up failed", name=str(target), cause=str(error))
                failed = True
            self._update()
            await self._let_go()
            has_found = bool(self._addresses[target])
            await asyncio.sleep(self._interval_s if has_found else self._interval_s / _HASTE)

    def _update(self) -> None:
        """Makes the connections those of the addresses that are known now."""
        held = {connection.address: connection for connection in (*self._current, *self._vanished)}
        wanted = dict.fromkeys(address for found in self._addresses.values() for address in found)
        current = [held.pop(address, None) or self._connected(address) for address in wanted]
        for address in held.keys() - {connection.address for connection in self._vanished}:
            log.info("address vanished", address=address)
        self._vanished = list(held.values())
        if tuple(current) != self._current:
            self._current = tuple(current)
            self._on_change()

    def _connected(self, address: str) -> ConnectionT:
        connection = self._connect(address)
        connection.on_change = self._on_change
        connection.start()
        return connection

    async def _let_go(self) -> None:
        """Closes what vanished and is of no use to anybody any more."""
        done = [one for one in self._vanished if one.is_idle or not one.is_connected]
        self._vanished = [connection for connection in self._vanished if connection not in done]
        await _close(done)


async def _close(connections: Sequence[Connection]) -> None:
    await asyncio.gather(*(connection.close() for connection in connections))
