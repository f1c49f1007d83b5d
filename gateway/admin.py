"""What an operator sees of a gateway and may do to it."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.admission import Admission
from gateway.generation import Generation
from octavo.errors import OctavoError
from octavo.rpc.admin import OpenRequest


class GatewayAdmin:
    """The gateway as octavo.rpc.admin.Administered has it."""

    def __init__(self, generation: Generation, admission: Admission) -> None:
        self._generation = generation
        self._admission = admission

    @property
    def is_serving(self) -> bool:
        """Whether a request can be served now."""
        return self._generation.is_ready()

    @property
    def is_draining(self) -> bool:
        """Whether the gateway is about to end."""
        return self._admission.is_draining

    @property
    def num_open(self) -> int:
        """Counts the generations that are open."""
        return len(self._generation.open.requests())

    def open_requests(self) -> Sequence[OpenRequest]:
        """The generations that are open, oldest first."""
        return self._generation.open.requests()

    def abort(self, request_id: str, error: OctavoError) -> int:
        """Ends those that have this id."""
        return self._generation.open.abort(request_id, error)
