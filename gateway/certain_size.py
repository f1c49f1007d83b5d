"""An answer that is certain to be too large is refused before it is made: one that is sent at once,
and whose outputs cannot end before they have too many tokens.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.answer_size import MAX_TOKENS_HELD
from gateway.model_card import ModelCard
from gateway.request import GenerationRequest
from octavo.errors import InWords, invalid_field

_WHY = (
    f"where the answer is not streamed: with n and top_logprobs it holds {MAX_TOKENS_HELD} tokens"
)


def check_certain_size(
    request: GenerationRequest, num_prompt_tokens: int, model: ModelCard
) -> None:
    """Raises InvalidArgumentError for the field that asks for too many tokens."""
    output = request.output
    if not request.sent_at_once or not (output.token_ids or output.logprobs):
        return
    num_top = (output.top_logprobs or 0) if output.logprobs else 0
    num_each = (request.sampling.n or 1) * (1 + min(num_top, model.vocabulary_size))
    limit = MAX_TOKENS_HELD // num_each
    room = model.max_context_tokens - num_prompt_tokens
    for field, value, num_tokens in _least_tokens(request, room):
        if num_tokens > limit:
            raise invalid_field(field, value, f"at most {limit} {_WHY}")


def _least_tokens(
    request: GenerationRequest, room: int
) -> Iterator[tuple[str, int | str | None, int]]:
    """Fields with their values, and the tokens that each output has because of them."""
    stopping, num_forced = request.stopping, len(request.sampling.forced_token_ids)
    if stopping.time_limit_ms is not None:
        return
    may_stop = not stopping.ignore_eos or (
        stopping.stop or stopping.stop_token_ids or stopping.stop_token_sequences
    )
    if not may_stop:
        longest = room if stopping.max_tokens is None else stopping.max_tokens
        yield "stopping.max_tokens", stopping.max_tokens, min(longest, room)
    yield "stopping.min_tokens", stopping.min_tokens, min(stopping.min_tokens or 0, room)
    yield "sampling.forced_token_ids", InWords(f"{num_forced} ids"), num_forced
