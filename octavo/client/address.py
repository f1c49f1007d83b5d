"""Where a server listens, as a user writes it."""

from __future__ import annotations

import re

from octavo.errors import invalid_field

DEFAULT_PORT = 8001
_ADDRESS = re.compile(r"(?P<host>[\w.-]+|\[[\da-fA-F:.%]+\])(:(?P<port>\d{1,5}))?")


def full_address(address: str) -> str:
    """`address` as host:port; a host alone gets the default port."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"] or 0) > 65535:
        raise invalid_field("address", address, "host or host:port, without http://")
    return address if match["port"] else f"{address}:{DEFAULT_PORT}"
