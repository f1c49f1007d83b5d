"""What a request on the toy model must give, by the plainest loop there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from services.worker.engine.engine import EngineConfig
from services.worker.engine.request import Submission, token_array
from services.worker.engine.step_output import Finish, FinishReason
from services.worker.engine.step_plan import Draw, History
from services.worker.engine.step_result import TokenLogprob
from tests.services.worker.engine import sampling_oracle
from tests.services.worker.engine.toy_model import Answers, toy_logits


@dataclass
class Alone:
    """New ids with their log probabilities; the finish, or the reason of the error."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    end: Finish | str = ""
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)


def ids_alone(
    asked: Submission, context_limit: int, *, index: int = 0
) -> tuple[tuple[int, ...], Finish | str]:
    """The new ids and the end alone."""
    answer = answer_alone(asked, context_limit, index=index)
    return tuple(answer.ids), answer.end


def answer_alone(asked: Submission, context_limit: int, *, index: int = 0) -> Alone:
    """One whole output; log probabilities are given where they were asked for."""
    answer = Alone()
    context = [*asked.prompt_ids, *(asked.generated_ids[index] if asked.generated_ids else ())]
    if asked.logprobs.prompt:
        for position in range(1, len(asked.prompt_ids)):
            answer.prompt_logprobs.append(_logprob(asked, context[: position + 1]))
    while True:
        end = _end(asked, context, context_limit)
        if end is not None:
            answer.end = end
            return answer
        token_id = _next(asked, context, index)
        if token_id is None:
            answer.end = "NO_TOKEN_ALLOWED"
            return answer
        context.append(token_id)
        answer.ids.append(token_id)
        if asked.logprobs.generated:
            answer.logprobs.append(_logprob(asked, context))


def _end(asked: Submission, context: list[int], context_limit: int) -> Finish | None:
    generated = context[len(asked.prompt_ids) :]
    if len(generated) > asked.min_tokens:
        if generated[-1] in asked.stop_ids:
            return Finish(reason=FinishReason.STOP, stop_id=generated[-1])
        for index, stop in enumerate(asked.stop_sequences):
            if generated[max(0, len(generated) - len(stop)) :] == list(stop):
                return Finish(reason=FinishReason.STOP, stop_sequence_index=index)
    if asked.max_tokens is not None and len(generated) >= asked.max_tokens:
        return Finish(reason=FinishReason.LENGTH)
    if len(context) >= context_limit:
        return Finish(reason=FinishReason.CONTEXT_LENGTH)
    return None


def _next(asked: Submission, context: list[int], index: int) -> int | None:
    num_generated = len(context) - len(asked.prompt_ids)
    if num_generated < len(asked.forced_ids):
        return asked.forced_ids[num_generated]
    draw = Draw(
        sampling=asked.sampling,
        output_index=index,
        position=len(context),
        history=History(token_ids=token_array(context), num_prompt_tokens=len(asked.prompt_ids)),
        forbidden_ids=token_array(asked.stop_ids if num_generated < asked.min_tokens else ()),
    )
    return sampling_oracle.token(toy_logits(context).tolist(), draw)


def _logprob(asked: Submission, context: list[int]) -> TokenLogprob:
    """That of the last token of the context."""
    logits = toy_logits(context[:-1]).tolist()
    return sampling_oracle.logprob(logits, context[-1], asked.logprobs.top)


def assert_as_alone(answers: Answers, asked: list[Submission], config: EngineConfig) -> None:
    """Every output has the ids and the end that it has alone."""
    for one in asked:
        for index in range(one.num_outputs):
            ids, end = ids_alone(one, config.context_limit, index=index)
            assert tuple(answers.ids[one.key, index]) == ids
            finish = answers.finishes.get((one.key, index), answers.end_of(one.key))
            assert finish == end


def assert_logprobs_as_alone(
    answers: Answers, asked: list[Submission], config: EngineConfig
) -> None:
    """And the log probabilities."""
    for one in asked:
        expected = answer_alone(one, config.context_limit)
        _assert_same_logprobs(answers.prompt_logprobs.get(one.key, ()), expected.prompt_logprobs)
        for index in range(one.num_outputs):
            expected = answer_alone(one, config.context_limit, index=index)
            _assert_same_logprobs(answers.logprobs[one.key, index], expected.logprobs)


def _assert_same_logprobs(found: Sequence[TokenLogprob], wanted: Sequence[TokenLogprob]) -> None:
    assert [one.top_ids for one in found] == [one.top_ids for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one.logprob == pytest.approx(other.logprob, rel=1e-6)
        assert one.top_logprobs == pytest.approx(other.top_logprobs, rel=1e-6)
