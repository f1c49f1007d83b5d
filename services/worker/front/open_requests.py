"""The requests that are open, and whose they are: the one place that maps keys."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from octavo.errors import AlreadyExistsError, OctavoError
from octavo.v1 import worker_pb2
from services.worker.link.request_end import ends_request
from services.worker.link.run_error import run_error

Owner = TypeVar("Owner", bound=Hashable)
Items = list[worker_pb2.RunItem]
OnEnd = Callable[[str, worker_pb2.RunItem | None], None]


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Owner]):
    owner: Owner
    key: int  # the owner's name for the request
    request_id: str  # its client's
    began_at: float  # time.monotonic()


class OpenRequests(Generic[Owner]):
    """Gives each request of any owner (an attachment) a key that is unique in the engine.

    Engine keys are never used twice, not even by another generation of ranks: an item that comes
    late, for a request that has ended here, is dropped.
    """

    def __init__(
        self, on_change: Callable[[], None] = lambda: None, on_end: OnEnd = lambda _, __: None
    ) -> None:
        """`on_end` gets a request's id and its last item, None where its owner has gone."""
        self._entries: dict[int, _Entry[Owner]] = {}
        self._engine_keys: defaultdict[Owner, dict[int, int]] = defaultdict(dict)
        self._next_key = itertools.count(1)
        self._on_change = on_change
        self._on_end = on_end

    def __len__(self) -> int:
        return len(self._entries)

    def open(self, owner: Owner, key: int, request_id: str = "") -> int:
        """The engine's key for a new request. Raises AlreadyExistsError."""
        if key in self._engine_keys[owner]:
            raise AlreadyExistsError(
                f"key {key} belongs to a request that is still open.",
                reason="KEY_IN_USE",
                metadata={"field": "submit.key", "value": str(key)},
            )
        engine_key = next(self._next_key)
        self._entries[engine_key] = _Entry(owner, key, request_id, time.monotonic())
        self._engine_keys[owner][key] = engine_key
        return engine_key

    def count(self, owner: Owner) -> int:
        """How many requests the owner has open."""
        return len(self._engine_keys.get(owner, ()))

    def engine_keys(self, owner: Owner, keys: list[int]) -> list[int]:
        """The engine's keys for those of the owner's keys that are open."""
        known = self._engine_keys.get(owner, {})
        return [known[key] for key in keys if key in known]

    def route(self, items: Items) -> Mapping[Owner, Items]:
        """Sorts a step's items by owner, under the owners' keys; closes the requests that end."""
        routed: defaultdict[Owner, Items] = defaultdict(list)
        for item in items:
            entry = self._entries.get(item.key)
            if entry is None:
                continue
            if ends_request(item):
                self._close(item)
            item.key = entry.key
            routed[entry.owner].append(item)
        return routed

    def drop(self, owner: Owner) -> list[int]:
        """Closes all that the owner has open; the engine's keys, to be cancelled there."""
        dropped = list(self._engine_keys.pop(owner, {}).values())
        for engine_key in dropped:
            self._on_end(self._entries.pop(engine_key).request_id, None)
        self._on_change()
        return dropped

    def requests(self) -> list[tuple[str, float]]:
        """Ids and beginnings (time.monotonic()) of all requests, oldest first."""
        return [(entry.request_id, entry.began_at) for entry in self._entries.values()]

    def keys_of(self, request_id: str) -> list[int]:
        """The engine's keys for the requests that have exactly this id: owners may share one."""
        return [key for key, entry in self._entries.items() if entry.request_id == request_id]

    def end_all(self, error: OctavoError) -> Mapping[Owner, Items]:
        """Closes every request; the items that tell the owners why."""
        return self.end([*self._entries], error)

    def end(self, engine_keys: list[int], error: OctavoError) -> Mapping[Owner, Items]:
        """Closes these requests; the items that tell the owners why."""
        return self.route(
            [worker_pb2.RunItem(key=key, error=run_error(error)) for key in engine_keys]
        )

    def _close(self, last: worker_pb2.RunItem) -> None:
        entry = self._entries.pop(last.key)
        del self._engine_keys[entry.owner][entry.key]
        self._on_end(entry.request_id, last)
        self._on_change()
