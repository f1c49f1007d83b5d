"""Fields that nobody here knows: accepted, for clients send many, and warned about once each."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

log = structlog.get_logger()

_MAX_NAMES = 1_000
_MAX_NAME_LENGTH = 60


class UnknownFields:
    """Knows what it has warned about, so that no client can fill a log; past 1,000 names it is
    silent.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()

    def warn_of(self, names: Iterable[str]) -> None:
        """One line for the names that were not seen before in this process."""
        new = {name[:_MAX_NAME_LENGTH] for name in names} - self._names
        fresh = sorted(new)[: _MAX_NAMES - len(self._names)]
        if fresh:
            self._names.update(fresh)
            log.warning("unknown fields are ignored", fields=fresh)
