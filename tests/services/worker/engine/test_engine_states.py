"""Whatever is submitted, cancelled and stepped, in any order, in a cache that is far too small:
no block leaks, every request ends once, with the tokens that it has alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from octavo.errors import DeadlineExceededError, OctavoError, ResourceExhaustedError
from services.worker.engine.engine import Engine, EngineConfig
from services.worker.engine.request import (
    LogitRules,
    LogprobOptions,
    Sampling,
    Submission,
    token_array,
)
from services.worker.engine.scheduler import Scheduler
from services.worker.engine.step_output import Finish, FinishReason
from tests.services.worker.engine.alone import ids_alone
from tests.services.worker.engine.toy_model import (
    Answers,
    Clock,
    ToyModel,
    make_engine,
    submission,
)

_IDS = st.integers(0, 49)
_RULES = st.builds(
    LogitRules,
    repetition_penalty=st.sampled_from([1.0, 1.4]),
    presence_penalty=st.sampled_from([0.0, -0.5]),
    allowed_ids=st.sampled_from([(), (3, 4, 5, 6)]).map(token_array),
    no_repeat_ngram=st.sampled_from([0, 1, 2]),
)
_SAMPLINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.7, 1.0]),
    top_p=st.sampled_from([0.9, 1.0]),
    top_k=st.sampled_from([0, 5]),
    min_p=st.sampled_from([0.0, 0.1]),
    rules=st.none() | _RULES,
    seed=st.integers(-(2**63), 2**63 - 1),
)
_LOGPROBS = st.builds(
    LogprobOptions, generated=st.booleans(), prompt=st.booleans(), top=st.sampled_from([0, 2])
)
_CUT_SHORT = (FinishReason.CANCELLED, FinishReason.TIME_LIMIT)


@st.composite
def _configs(draw: st.DrawFn) -> EngineConfig:
    max_running = draw(st.integers(1, 5))
    return EngineConfig(
        num_blocks=draw(st.integers(2, 12)),
        block_tokens=draw(st.sampled_from([1, 2, 4])),
        max_step_tokens=max_running + draw(st.integers(0, 12)),
        max_running=max_running,
        max_waiting=draw(st.integers(1, 6)),
        max_waiting_prompt_tokens=draw(st.integers(5, 60)),
        max_context=24,
    )


class EngineMachine(RuleBasedStateMachine):
    """Drives an engine and keeps what it must give beside what it gives."""

    @initialize(config=_configs())
    def start(self, config: EngineConfig) -> None:
        self.config = config
        self.clock = Clock()
        self.model = ToyModel()
        self.engine: Engine = make_engine(config, model=self.model, clock=self.clock)
        self.scheduler: Scheduler = self.engine._scheduler
        self.answers = Answers()
        self.asked: dict[int, Submission] = {}
        self.cancelled: set[int] = set()
        self.cancelled_outputs: set[tuple[int, int]] = set()

    @rule(
        prompt=st.lists(_IDS, min_size=1, max_size=12),
        num_outputs=st.integers(1, 4),
        generated=st.lists(st.lists(_IDS, max_size=3), min_size=4, max_size=4) | st.just([]),
        forced=st.lists(_IDS, max_size=8),
        logprobs=_LOGPROBS,
        sampling=_SAMPLINGS,
        max_tokens=st.none() | st.integers(0, 10),
        stop_ids=st.frozensets(_IDS, max_size=8),
        stop_sequences=st.lists(_IDS.map(lambda id: token_array([id])), max_size=3).map(tuple),
        min_tokens=st.integers(0, 4),
        priority=st.integers(-1, 1),
        time_limit=st.none() | st.integers(0, 20),
        deadline=st.none() | st.integers(0, 20),
    )
    def submit(
        self, *, prompt: list[int], num_outputs: int, generated: list[list[int]], forced: list[int],
        time_limit: int | None, deadline: int | None, **fields: Any,
    ) -> None:  # fmt: skip
        num_outputs = min(num_outputs, self.config.max_running)
        if any(generated):  # the prompt was scored before
            fields["logprobs"] = dataclasses.replace(fields["logprobs"], prompt=False)
        made = submission(
            len(self.asked),
            prompt,
            num_outputs=num_outputs,
            generated_ids=tuple(
                tuple((forced + ids)[: len(ids)]) for ids in generated[:num_outputs]
            ),
            forced_ids=tuple(forced),
            arrived_at=self.clock.now,
            expires_at=None if time_limit is None else self.clock.now + time_limit,
            deadline_at=None if deadline is None else self.clock.now + deadline,
            **fields,
        )
        self.asked[made.key] = made
        self.engine.submit(made)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.asked)))
        if key not in self.answers.ends:
            self.cancelled.add(key)
        self.engine.cancel([key])

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def cancel_output(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.asked)))
        index = data.draw(st.integers(0, self.asked[key].num_outputs))  # the last is none
        if (key, index) not in self.answers.finishes:
            self.cancelled_outputs.add((key, index))
        self.engine.cancel_outputs([(key, index)])

    @rule(count=st.integers(1, 4))
    def step(self, count: int) -> None:
        for _ in range(count):
            self.clock.now += 1
            output = self.engine.step()
            self.answers.add(output.items)
            assert output.load == self.engine.load

    @invariant()
    def blocks_are_where_they_belong(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        self.scheduler.check()
        for sequence in self.scheduler.running:
            assert len(sequence.block_table) <= self.config.num_blocks_for(len(sequence.token_ids))

    @invariant()
    def limits_hold(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        assert self.engine.load.num_running <= self.config.max_running
        assert max(self.model.num_tokens_of_steps, default=0) <= self.config.max_step_tokens
        waiting = list(self.scheduler.waiting)
        assert self.scheduler.waiting.num_prompt_tokens == sum(
            sequence.request.num_prompt_tokens for sequence in waiting
        )
        new = [sequence for sequence in waiting if sequence.request.num_preemptions == 0]
        num_new = sum(sequence.num_outputs for sequence in new)
        # An empty queue takes all outputs of a request.
        assert num_new <= max(self.config.max_waiting, self.config.max_running)

    @invariant()
    def order_holds(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        running, waiting = list(self.scheduler.running), list(self.scheduler.waiting)
        assert running == sorted(running, key=lambda sequence: sequence.precedence)
        assert waiting == sorted(waiting, key=lambda sequence: sequence.precedence)
        for runs in running:
            for waits in waiting:
                if waits.request.num_preemptions > 0 or (
                    waits.request.submission.priority == runs.request.submission.priority
                ):
                    assert runs.precedence < waits.precedence

    def teardown(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        # Each step gives at least one token to the first, or a chunk of its prompt.
        for _ in range(2 + 60 * sum(asked.num_outputs for asked in self.asked.values())):
            if not self.engine.has_work:
                break
            self.step(1)
        assert not self.engine.has_work
        assert self.engine.load.num_used_blocks == 0
        assert set(self.answers.ends) == set(self.asked)
        for key, asked in self.asked.items():
            end = self.answers.ends[key]
            for index in range(asked.num_outputs):
                ids = self.answers.ids.get((key, index), [])
                if isinstance(end, OctavoError):
                    self._check_failure(asked, index, ids, end)
                else:
                    self._check_output(asked, index, ids, self.answers.finishes[key, index])

    def _check_failure(
        self, asked: Submission, index: int, ids: list[int], end: OctavoError
    ) -> None:
        alone, _ = ids_alone(asked, self.config.context_limit, index=index)
        assert tuple(ids) == alone[: len(ids)]
        if isinstance(end, DeadlineExceededError):
            assert asked.deadline_at is not None
        elif end.reason == "NO_TOKEN_ALLOWED":
            outputs = range(asked.num_outputs)
            ends = [ids_alone(asked, self.config.context_limit, index=one)[1] for one in outputs]
            assert end.reason in ends
        else:
            num_least = len(asked.prompt_ids) + max(asked.max_tokens != 0, len(asked.forced_ids))
            too_long = num_least > self.config.context_limit
            assert too_long or isinstance(end, ResourceExhaustedError)
            assert ids == []

    def _check_output(self, asked: Submission, index: int, ids: list[int], end: Finish) -> None:
        alone, alone_end = ids_alone(asked, self.config.context_limit, index=index)
        if asked.logprobs.generated:
            assert len(self.answers.logprobs[asked.key, index]) == len(ids)
        if asked.logprobs.prompt and ids:
            assert len(self.answers.prompt_logprobs[asked.key]) == len(asked.prompt_ids) - 1
        if end.reason in _CUT_SHORT:
            assert tuple(ids) == alone[: len(ids)]
            if end.reason is FinishReason.CANCELLED:
                named = (asked.key, index) in self.cancelled_outputs
                assert named or asked.key in self.cancelled
            else:
                assert asked.expires_at is not None
        else:
            assert (tuple(ids), end) == (alone, alone_end)


TestEngineStates = EngineMachine.TestCase
TestEngineStates.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None, derandomize=True
)


@pytest.mark.slow
class TestEngineStatesLonger(EngineMachine.TestCase):  # type: ignore[misc,valid-type]  # made by hypothesis
    settings = settings(max_examples=120, stateful_step_count=80, deadline=None)


def test_the_machine_checks_what_it_says() -> None:
    """A toy whose context is read one block off gives other ids, or fails: the net has no hole."""
    asked = submission(1, range(9), max_tokens=3)
    config = EngineConfig(
        num_blocks=12,
        block_tokens=4,
        max_step_tokens=8,
        max_running=2,
        max_waiting=4,
        max_waiting_prompt_tokens=100,
        max_context=24,
    )
    engine = make_engine(config)
    engine.submit(asked)
    engine.step()
    (sequence,) = engine._scheduler.running
    sequence.block_table.reverse()
    with pytest.raises(AssertionError, match="the cache is not what was written"):
        engine.step()
