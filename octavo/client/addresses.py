"""From what an operator wrote, host:port, to the addresses that it stands for."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from octavo.client.defaults import DEFAULT_PORT
from octavo.errors import invalid_field

_LARGEST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Target:
    """A host and a port; the host is a name or an address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_address(self) -> bool:
        """Whether there is nothing to look up."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True


Resolve = Callable[[Target], Awaitable[Sequence[str]]]


def parse_target(text: str) -> Target:
    """Reads host:port or [IPv6 address]:port; raises ValueError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} is ambiguous; an IPv6 address is written [address]:port")
    if not (colon and host and port.isascii() and port.isdigit()):
        raise ValueError(f"{text!r} is not host:port")
    if not 1 <= int(port) <= _LARGEST_PORT:
        raise ValueError(f"the port of {text!r} is not from 1 to {_LARGEST_PORT}")
    return Target(host, int(port))


def full_address(text: str) -> str:
    """`text` as host:port; a host alone gets the gateway's port. Raises InvalidArgumentError."""
    for candidate in (text, f"{text}:{DEFAULT_PORT}"):
        with contextlib.suppress(ValueError):
            return str(parse_target(candidate))
    raise invalid_field("address", text, "host or host:port, without http://")


async def resolve(target: Target) -> Sequence[str]:
    """The addresses of a name, each as host:port; raises OSError where the look-up fails.

    Of one family: a replica with addresses of both would count twice.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label too long, or empty
        raise OSError(str(error)) from error
    of_ipv4 = [entry for entry in found if entry[0] == socket.AF_INET]
    hosts = {str(entry[4][0]) for entry in of_ipv4 or found}
    return sorted(str(Target(host, target.port)) for host in hosts)
