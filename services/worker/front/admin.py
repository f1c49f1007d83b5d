"""What an operator sees of a worker group and may do to it."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.errors import OctavoError
from octavo.rpc.admin import OpenRequest
from services.worker.front.group import DRAINING, SERVING, Group


class GroupAdmin:
    """The group as octavo.rpc.admin.Administered has it."""

    def __init__(self, group: Group) -> None:
        self._group = group

    @property
    def is_serving(self) -> bool:
        """Whether requests are taken."""
        return self._group.state == SERVING

    @property
    def is_draining(self) -> bool:
        """Whether the process is about to end."""
        return self._group.state == DRAINING

    @property
    def num_open(self) -> int:
        """Counts the requests that are open."""
        return self._group.num_requests

    def open_requests(self) -> Sequence[OpenRequest]:
        """The requests that are open, oldest first."""
        return [
            OpenRequest(request_id=request_id, began_at=began_at)
            for request_id, began_at in self._group.open_requests()
        ]

    def abort(self, request_id: str, error: OctavoError) -> int:
        """Ends those that have this id."""
        return self._group.abort(request_id, error)
