"""The lines of a rank about each request, under the id that its client knows."""

from __future__ import annotations

import structlog

from octavo.errors import Code
from services.worker.engine.request import Submission
from services.worker.engine.step_output import OutputItem, StepOutput

log = structlog.get_logger()


class RequestLog:
    """Remembers the ids of the requests that are open: items know keys only."""

    def __init__(self) -> None:
        self._ids: dict[int, str] = {}

    def submitted(self, submission: Submission) -> None:
        """A request goes to the engine."""
        self._ids[submission.key] = submission.request_id
        log.debug(
            "submitted", request_id=submission.request_id, prompt_tokens=len(submission.prompt_ids)
        )

    def stepped(self, output: StepOutput) -> None:
        """Says which requests ended with a step."""
        for item in output.items:
            if item.error is not None or item.timings is not None:
                self._ended(item)

    def _ended(self, item: OutputItem) -> None:
        request_id = self._ids.pop(item.key, "")
        if item.error is None:
            assert item.finish is not None
            log.debug("finished", request_id=request_id, finish=item.finish.reason.name)
            return
        say = log.warning if item.error.code is Code.INTERNAL else log.info
        say("failed", request_id=request_id, reason=item.error.reason, error=item.error.message)
