"""The rank's main loop: what came in goes to the engine, a step runs, what it gave goes out."""

from __future__ import annotations

import time
from typing import Protocol

from octavo.v1 import worker_pb2
from services.worker.engine.request import Submission
from services.worker.engine.step_output import StepOutput
from services.worker.link.messages import Stop
from services.worker.link.rank_end import RankEnd
from services.worker.rank.activity import Activity
from services.worker.rank.convert import response_to_pb, submission_from_pb
from services.worker.rank.inbox import Inbox
from services.worker.rank.request_log import RequestLog


class SteppingEngine(Protocol):
    """What the loop needs of an engine."""

    @property
    def has_work(self) -> bool:
        """Whether a step would do or report anything."""

    def submit(self, submission: Submission) -> None:
        """Takes a request."""

    def cancel(self, keys: list[int]) -> None:
        """Ends requests early."""

    def cancel_outputs(self, outputs: list[tuple[int, int]]) -> None:
        """Ends single outputs early, each named by key and index."""

    def step(self) -> StepOutput:
        """Runs one step."""


def run(engine: SteppingEngine, inbox: Inbox, link: RankEnd, activity: Activity) -> None:
    """Steps until the front says stop. What a step raises is raised."""
    requests = RequestLog()
    activity.begin_idle()
    while True:
        for act in inbox.take(wait=not engine.has_work):
            if isinstance(act, Stop):
                return
            _apply(engine, act, requests)
        if engine.has_work:
            activity.begin_step()
            output = engine.step()
            link.send_response(response_to_pb(output))
            activity.begin_idle()
            requests.stepped(output)


def _apply(engine: SteppingEngine, request: worker_pb2.RunRequest, requests: RequestLog) -> None:
    if request.WhichOneof("action") == "submit":
        submission = submission_from_pb(request.submit, time.monotonic())
        requests.submitted(submission)
        engine.submit(submission)
    else:
        engine.cancel(list(request.cancel.keys))
        engine.cancel_outputs([(one.key, one.output_index) for one in request.cancel.outputs])
