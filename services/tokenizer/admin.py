"""What an operator sees of a tokenizer, which knows calls and decoders, not requests."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.errors import OctavoError
from octavo.rpc.admin import OpenRequest
from services.tokenizer.server import TokenizerService


class TokenizerAdmin:
    """The service as octavo.rpc.admin.Administered has it."""

    def __init__(self, service: TokenizerService) -> None:
        self._service = service

    @property
    def is_serving(self) -> bool:
        """Whether calls are taken."""
        return not self._service.is_draining

    @property
    def is_draining(self) -> bool:
        """Whether the process is about to end."""
        return self._service.is_draining

    @property
    def num_open(self) -> int:
        """Counts calls and decoders."""
        return self._service.num_open

    def open_requests(self) -> Sequence[OpenRequest]:
        """None are known here."""
        return ()

    def abort(self, request_id: str, error: OctavoError) -> int:
        """Ends none: a request is aborted at its gateway."""
        return 0
