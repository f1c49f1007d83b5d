"""`python -m gateway`."""

from __future__ import annotations

import asyncio

from gateway.app import run
from gateway.config import GatewaySettings
from octavo.environment import warn_of_unknown_variables
from octavo.logs import configure_logs
from octavo.settings import fail

PROG = "python -m gateway"


def main() -> None:
    """Runs a gateway; exits 2 with one line where an address cannot be bound."""
    settings = GatewaySettings.load(prog=PROG)
    configure_logs("gateway", format=settings.log_format, level=settings.log_level)
    warn_of_unknown_variables()
    try:
        asyncio.run(run(settings))
    except OSError as error:
        fail(PROG, str(error))


if __name__ == "__main__":
    main()
