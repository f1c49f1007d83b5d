"""What becomes of each request, as the log and the counters of the front have it."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from prometheus_client import CollectorRegistry, Counter

from octavo.errors import Code, OctavoError, http_status
from octavo.v1 import worker_pb2

log = structlog.get_logger()


class RequestWatch:
    """Hears of each request when it comes, when it is refused and when it ends."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "octavo_worker_requests",
            "Requests that have ended.",
            ["outcome"],
            registry=registry,
        )
        self._errors = Counter(
            "octavo_worker_errors",
            "Requests that were refused or failed.",
            ["reason"],
            registry=registry,
        )
        self._prompt_tokens = Counter(
            "octavo_worker_prompt_tokens", "Prompt tokens of requests taken.", registry=registry
        )
        self._generated_tokens = Counter(
            "octavo_worker_generated_tokens", "Tokens generated.", registry=registry
        )

    def submitted(self, submit: worker_pb2.Submit) -> None:
        """A request goes to the ranks."""
        num_tokens = len(submit.prompt_token_ids)
        self._prompt_tokens.inc(num_tokens)
        log.debug("submitted", request_id=submit.request_id, prompt_tokens=num_tokens)

    def refused(self, request_id: str, error: OctavoError) -> None:
        """A request was refused before a rank saw it."""
        self._failed(request_id, error.code, error.reason, error.message)

    def generated(self, items: Iterable[worker_pb2.RunItem]) -> None:
        """A step gave these."""
        self._generated_tokens.inc(sum(len(item.token_ids) for item in items))

    def ended(self, request_id: str, last: worker_pb2.RunItem | None) -> None:
        """A request ended with its last item, or with its gateway (None)."""
        if last is None:
            self._requests.labels("cancelled").inc()
            log.debug("dropped", request_id=request_id)
        elif last.HasField("error"):
            error = last.error
            self._failed(request_id, Code(error.code), error.reason, error.message)
        else:
            reason = worker_pb2.RunFinishReason.Name(last.finish.reason)
            is_cancelled = last.finish.reason == worker_pb2.RUN_FINISH_REASON_CANCELLED
            self._requests.labels("cancelled" if is_cancelled else "ok").inc()
            finish = reason.removeprefix("RUN_FINISH_REASON_")
            log.debug("finished", request_id=request_id, finish=finish)

    def _failed(self, request_id: str, code: Code, reason: str, message: str) -> None:
        outcome = "refused" if http_status(code) < 500 else "failed"
        self._requests.labels(outcome).inc()
        self._errors.labels(reason).inc()
        log.info(outcome, request_id=request_id, reason=reason, error=message)
