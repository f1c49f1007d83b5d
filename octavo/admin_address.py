"""The address of a process's admin calls: one that only its own machine can reach."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator

_WHY = "whoever reaches the admin calls may end requests and the process"


def check_loopback(address: str) -> str:
    """The address, host:port; raises ValueError where another machine could reach it."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise ValueError("it must be host:port")
    if host != "localhost" and not _is_loopback(host):
        raise ValueError(f"it must be of the loopback, such as 127.0.0.1:9000: {_WHY}")
    return address


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


AdminAddress = Annotated[str, AfterValidator(check_loopback)]
ADMIN_ADDRESS_HELP = "Loopback host:port for channelz and the admin calls; off by default."
