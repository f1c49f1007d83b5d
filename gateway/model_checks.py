"""Checks a request against its model: ids, lengths, chat template, and what its workers take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.answer_size import MAX_TOKENS_HELD
from gateway.certain_size import check_certain_size
from gateway.model_card import ModelCard
from gateway.request import Chat, GenerationRequest
from gateway.validation import check_input_bytes, is_absent
from octavo.errors import InWords, invalid_field, unsupported_field

# The groups of fields that a worker group may not take.
_GROUPS = ("sampling", "stopping", "output")


def check_against_model(request: GenerationRequest, model: ModelCard) -> None:
    """Checks what depends on the model, its tokenizer and its workers."""
    check_input_bytes(request, model.capabilities.max_prompt_bytes)
    _check_supported(request, model)
    _check_at_most("sampling.n", request.sampling.n, model.capabilities.max_outputs)
    most_top = model.capabilities.max_top_logprobs
    _check_at_most("output.top_logprobs", request.output.top_logprobs, most_top)
    if request.token_ids is not None:
        check_prompt_length(request, len(request.token_ids), model)
    for field, ids in _lists_of_ids(request):
        check_token_ids(field, ids, model)
    for token_id, bias in request.sampling.logit_bias.items():
        if not 0 <= token_id < model.vocabulary_size:
            limit = f"a number whose key is {_token_id_limit(model)}"
            raise invalid_field(f"sampling.logit_bias[{token_id}]", bias, limit)
    check_chat(request.chat, model)


def check_chat(chat: Chat | None, model: ModelCard) -> None:
    """A conversation needs a chat template."""
    if chat is not None and not model.has_chat_template:
        limit = "absent: the checkpoint brings no chat template"
        raise invalid_field("chat", InWords("a conversation"), limit)


def check_token_ids(field: str, ids: Sequence[int], model: ModelCard) -> None:
    """Each id must be one of the model's."""
    if ids and not 0 <= min(ids) <= max(ids) < model.vocabulary_size:
        index = next(i for i, id_ in enumerate(ids) if not 0 <= id_ < model.vocabulary_size)
        raise invalid_field(f"{field}[{index}]", ids[index], _token_id_limit(model))


def check_prompt_length(request: GenerationRequest, num_tokens: int, model: ModelCard) -> None:
    """The prompt must leave room for one token, and for those that must come; what comes must fit
    into its answer.
    """
    field = input_field(request)
    limit = model.max_context_tokens - 1
    if num_tokens > limit:
        raise invalid_field(field, InWords(f"{num_tokens} tokens"), f"at most {limit} tokens")
    if num_tokens == 0:
        raise invalid_field(field, InWords("0 tokens"), "text that makes at least one token")
    _check_prompt_logprobs(request, num_tokens)
    room = model.max_context_tokens - num_tokens
    if (num_forced := len(request.sampling.forced_token_ids)) > room:
        limit_text = f"at most {room} ids, the rest of the context"
        raise invalid_field("sampling.forced_token_ids", InWords(f"{num_forced} ids"), limit_text)
    if (min_tokens := request.stopping.min_tokens or 0) > room:
        limit_text = f"at most {room}, the rest of the context"
        raise invalid_field("stopping.min_tokens", min_tokens, limit_text)
    check_certain_size(request, num_tokens, model)


def input_field(request: GenerationRequest) -> str:
    """The name of the field that holds what to continue."""
    return next(
        name for name in ("prompt", "token_ids", "chat") if getattr(request, name) is not None
    )


def _check_prompt_logprobs(request: GenerationRequest, num_tokens: int) -> None:
    """They come in one message."""
    num_scores = num_tokens * (1 + (request.output.top_logprobs or 0))
    if request.output.prompt_logprobs and num_scores > MAX_TOKENS_HELD:
        limit = f"at most {MAX_TOKENS_HELD}: the prompt's tokens times 1 + top_logprobs"
        raise invalid_field(
            "output.prompt_logprobs", InWords(f"{num_scores} log probabilities"), limit
        )


def _check_supported(request: GenerationRequest, model: ModelCard) -> None:
    for group in _GROUPS:
        message = getattr(request, group)
        for name in message.__dataclass_fields__:
            path = f"{group}.{name}"
            is_set = not is_absent(getattr(message, name))
            if is_set and path not in model.capabilities.fields:
                raise unsupported_field(path)


def _check_at_most(field: str, value: int | None, limit: int) -> None:
    if value is not None and value > limit:
        raise invalid_field(field, value, f"at most {limit} with this model")


def _lists_of_ids(request: GenerationRequest) -> Iterator[tuple[str, Sequence[int]]]:
    yield "token_ids", request.token_ids or ()
    yield "sampling.allowed_token_ids", request.sampling.allowed_token_ids
    yield "sampling.forced_token_ids", request.sampling.forced_token_ids
    yield "stopping.stop_token_ids", request.stopping.stop_token_ids
    for index, sequence in enumerate(request.stopping.stop_token_sequences):
        yield f"stopping.stop_token_sequences[{index}]", sequence


def _token_id_limit(model: ModelCard) -> str:
    return f"a token id from 0 to {model.vocabulary_size - 1}"
