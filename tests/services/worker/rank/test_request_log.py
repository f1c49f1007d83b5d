"""The lines of a rank carry the ids that clients know."""

from __future__ import annotations

import structlog

from octavo.errors import InternalError, ResourceExhaustedError
from services.worker.engine.request import Sampling, Submission
from services.worker.engine.step_output import (
    Finish,
    FinishReason,
    Load,
    OutputItem,
    StepOutput,
    Timings,
)
from services.worker.rank.request_log import RequestLog

TIMINGS = Timings(queue_ms=1, prefill_ms=1, decode_ms=1, num_preemptions=0)
LOAD = Load(
    step=1,
    num_running=0,
    num_waiting=0,
    num_waiting_prompt_tokens=0,
    num_used_blocks=0,
    num_blocks=1,
    num_preemptions=0,
    num_step_prompt_tokens=0,
)


def submission(key: int) -> Submission:
    return Submission(
        key=key, request_id=f"request-{key}", prompt_ids=(1, 2), sampling=Sampling(), arrived_at=0.0
    )


def test_a_request_is_named_when_it_comes_and_when_it_ends() -> None:
    requests = RequestLog()
    finish = Finish(reason=FinishReason.LENGTH)
    full = ResourceExhaustedError("full", reason="QUEUE_FULL")
    broken = InternalError("not finite", reason="NUMERIC_ERROR")
    items = (
        OutputItem(key=1, token_ids=(3,), finish=finish, timings=TIMINGS),
        OutputItem(key=2, error=full),
        OutputItem(key=3, error=broken, timings=TIMINGS),
        OutputItem(key=4, token_ids=(3,)),
    )
    with structlog.testing.capture_logs() as lines:
        for key in range(1, 5):
            requests.submitted(submission(key))
        requests.stepped(StepOutput(items=items, load=LOAD))
    ends = [
        (line["request_id"], line["event"], line["log_level"])
        for line in lines
        if line["event"] != "submitted"
    ]
    assert ends == [
        ("request-1", "finished", "debug"),
        ("request-2", "failed", "info"),
        ("request-3", "failed", "warning"),
    ]
    assert [line["prompt_tokens"] for line in lines if line["event"] == "submitted"] == [2] * 4
