"""What an operator may write, and what it stands for."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from octavo.client.addresses import Target, parse_target, resolve


@pytest.mark.parametrize(
    ("text", "target", "is_address"),
    [
        ("127.0.0.1:8003", Target("127.0.0.1", 8003), True),
        ("[::1]:1", Target("::1", 1), True),
        ("tokenizer.default.svc:65535", Target("tokenizer.default.svc", 65535), False),
    ],
)
def test_a_host_and_a_port(text: str, target: Target, is_address: bool) -> None:
    assert parse_target(text) == target
    assert target.is_address is is_address
    assert str(target) == text


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":1", "host:x", "host:0", "host:65536", "host:-1", "::1:8002"]
)
def test_anything_else_is_refused_by_its_value(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|ambiguous") as raised:
        parse_target(text)
    assert repr(text) in str(raised.value)


class Resolver:
    """Stands in for the loop's resolver."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
        self.hosts = hosts
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self.getaddrinfo)

    async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        return [
            (socket.AF_INET6, 1, 6, "", (found, port, 0, 0))
            if ":" in found
            else (socket.AF_INET, 1, 6, "", (found, port))
            for found in self.hosts
        ]


async def test_a_name_stands_for_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    Resolver(monkeypatch, "10.0.0.2", "10.0.0.1", "10.0.0.2")
    assert await resolve(Target("worker", 8003)) == ["10.0.0.1:8003", "10.0.0.2:8003"]


async def test_addresses_are_of_one_family(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = Resolver(monkeypatch, "fd00::1", "10.0.0.1")
    assert await resolve(Target("worker", 1)) == ["10.0.0.1:1"]
    resolver.hosts = ("fd00::1",)
    assert await resolve(Target("worker", 1)) == ["[fd00::1]:1"]


async def test_a_name_that_cannot_be_one_is_not_found() -> None:
    with pytest.raises(OSError, match="label"):
        await resolve(Target("a" * 64, 1))
