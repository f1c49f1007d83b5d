"""Who sees the calls that a server answers, and the one that writes lines about them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import grpc.aio
import structlog

from octavo.errors import OctavoError
from octavo.rpc.request_id import bind_request_id, request_id_of

log = structlog.get_logger()

if TYPE_CHECKING:  # subscripts that exist in the stubs only
    Context = grpc.aio.ServicerContext[Any, Any]
    # Entered before the handler of a method, left with what it raised.
    CallObserver = Callable[[str, Context], AbstractContextManager[None]]


@contextmanager
def logged_call(method: str, context: Context) -> Iterator[None]:
    """Binds the request id that a call brings, and says how it ended: at info where it failed."""
    request_id = request_id_of(context)
    if request_id is not None:
        bind_request_id(request_id)
    began_at = time.monotonic()
    try:
        yield
    except OctavoError as error:
        failure = {"code": error.code.name, "reason": error.reason, "error": error.message}
        log.info("call failed", method=method, **failure, ms=_ms_since(began_at))
        raise
    except (asyncio.CancelledError, GeneratorExit):
        log.debug("call cancelled", method=method, ms=_ms_since(began_at))
        raise
    else:
        log.debug("call answered", method=method, ms=_ms_since(began_at))


def _ms_since(began_at: float) -> float:
    return round(1_000 * (time.monotonic() - began_at), 3)
