"""The rank's main loop around an engine that records."""

from __future__ import annotations

from typing import cast

from octavo.v1 import worker_pb2
from services.worker.engine.request import Submission
from services.worker.engine.step_output import Load, OutputItem, StepOutput
from services.worker.link.messages import Stop
from services.worker.link.rank_end import RankEnd
from services.worker.rank import loop
from services.worker.rank.activity import Activity
from services.worker.rank.inbox import Act, Inbox

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


class FakeInbox:
    def __init__(self, *batches: list[Act]) -> None:
        self.batches = list(batches)
        self.waits: list[bool] = []

    def take(self, *, wait: bool) -> list[Act]:
        self.waits.append(wait)
        return self.batches.pop(0)


class FakeLink:
    def __init__(self) -> None:
        self.sent: list[worker_pb2.RunResponse] = []

    def send_response(self, response: worker_pb2.RunResponse) -> None:
        self.sent.append(response)


class TwoStepEngine:
    """Every submission takes two steps."""

    def __init__(self, activity: Activity) -> None:
        self.activity = activity
        self.steps_left = 0
        self.acts: list[str] = []

    @property
    def has_work(self) -> bool:
        return self.steps_left > 0

    def submit(self, submission: Submission) -> None:
        self.acts.append(f"submit {submission.key}")
        self.steps_left = 2

    def cancel(self, keys: list[int]) -> None:
        self.acts.append(f"cancel {keys}")

    def cancel_outputs(self, outputs: list[tuple[int, int]]) -> None:
        self.acts.append(f"cancel outputs {outputs}")

    def step(self) -> StepOutput:
        assert self.activity.heartbeat().activity == "stepping"
        self.steps_left -= 1
        return StepOutput(items=(OutputItem(key=1),), load=LOAD)


def submit(key: int) -> worker_pb2.RunRequest:
    return worker_pb2.RunRequest(submit=worker_pb2.Submit(key=key, prompt_token_ids=[1]))


def test_waits_without_work_steps_with_it_and_ends_at_a_stop() -> None:
    activity, link = Activity(100), FakeLink()
    engine = TwoStepEngine(activity)
    output = worker_pb2.OutputKey(key=3, output_index=1)
    cancel = worker_pb2.RunRequest(cancel=worker_pb2.Cancel(keys=[1, 2], outputs=[output]))
    inbox = FakeInbox([submit(1)], [cancel], [], [Stop()])
    loop.run(engine, cast(Inbox, inbox), cast(RankEnd, link), activity)
    assert engine.acts == ["submit 1", "cancel [1, 2]", "cancel outputs [(3, 1)]"]
    assert inbox.waits == [True, False, True, True]
    assert len(link.sent) == 2
    assert activity.heartbeat().activity == "idle"
