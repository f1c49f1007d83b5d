"""From the gateway's events, models and errors to the public wire."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from gateway.answer_size import AnswerSize
from gateway.events import Accepted, Delta, Event, Finished, Token, Usage
from gateway.model_card import ModelCard
from octavo.errors import OctavoError
from octavo.v1 import generation_pb2 as pb


def stream_response_to_pb(event: Event) -> pb.StreamGenerateResponse:
    """One event of StreamGenerate."""
    match event:
        case Accepted():
            return pb.StreamGenerateResponse(accepted=accepted_to_pb(event))
        case Delta():
            return pb.StreamGenerateResponse(delta=_delta_to_pb(event))
        case Finished():
            return pb.StreamGenerateResponse(finished=finished_to_pb(event))
        case Usage():
            return pb.StreamGenerateResponse(usage=usage_to_pb(event))


def session_response_to_pb(key: int, event: Event | OctavoError) -> pb.OpenSessionResponse:
    """One event of one generation of a session."""
    match event:
        case Accepted():
            return pb.OpenSessionResponse(key=key, accepted=accepted_to_pb(event))
        case Delta():
            return pb.OpenSessionResponse(key=key, delta=_delta_to_pb(event))
        case Finished():
            return pb.OpenSessionResponse(key=key, finished=finished_to_pb(event))
        case Usage():
            return pb.OpenSessionResponse(key=key, usage=usage_to_pb(event))
        case OctavoError():
            return pb.OpenSessionResponse(key=key, error=_error_to_pb(event))


class GenerateAnswer:
    """Gathers the events of one generation into the answer of Generate."""

    def __init__(self) -> None:
        self._size = AnswerSize()
        self._response = pb.GenerateResponse()
        self._texts: dict[int, list[str]] = {}
        self._outputs: dict[int, pb.Output] = {}

    def add(self, event: Event) -> None:
        """Takes the next event; raises InvalidArgumentError where the answer grows too large."""
        match event:
            case Accepted():
                self._size.add(event.prompt_tokens)
                self._response.accepted.CopyFrom(accepted_to_pb(event))
            case Delta():
                self._size.add(event.tokens, event.text)
                self._texts.setdefault(event.output_index, []).append(event.text)
                self._output(event.output_index).tokens.extend(_tokens_to_pb(event.tokens))
            case Finished():
                self._output(event.output_index).finished.CopyFrom(finished_to_pb(event))
            case Usage():
                self._response.usage.CopyFrom(usage_to_pb(event))

    def to_pb(self) -> pb.GenerateResponse:
        """The whole answer."""
        for index in sorted(self._outputs):
            self._outputs[index].text = "".join(self._texts.get(index, ()))
            self._response.outputs.append(self._outputs[index])
        return self._response

    def _output(self, index: int) -> pb.Output:
        return self._outputs.setdefault(index, pb.Output(output_index=index))


def accepted_to_pb(accepted: Accepted) -> pb.Accepted:
    """Says that the worker has scheduled the request."""
    return pb.Accepted(
        request_id=accepted.request_id,
        model=accepted.model,
        prompt_token_count=accepted.num_prompt_tokens,
        cached_prompt_token_count=accepted.num_cached_prompt_tokens,
        seed=accepted.seed,
        prompt_tokens=_tokens_to_pb(accepted.prompt_tokens),
    )


def finished_to_pb(finished: Finished) -> pb.Finished:
    """Says why an output ended."""
    message = pb.Finished(
        output_index=finished.output_index,
        reason=pb.FinishReason.Value(f"FINISH_REASON_{finished.reason.value}"),
    )
    if finished.stop_text is not None:
        message.stop_text = finished.stop_text
    elif finished.stop_token_id is not None:
        message.stop_token_id = finished.stop_token_id
    elif finished.stop_token_sequence is not None:
        message.stop_token_sequence.ids.extend(finished.stop_token_sequence)
    return message


def usage_to_pb(usage: Usage) -> pb.Usage:
    """Counts and times."""
    return pb.Usage(
        prompt_token_count=usage.num_prompt_tokens,
        cached_prompt_token_count=usage.num_cached_prompt_tokens,
        completion_token_count=usage.num_completion_tokens,
        queue_ms=usage.queue_ms,
        prefill_ms=usage.prefill_ms,
        first_token_ms=usage.first_token_ms,
        decode_ms=usage.decode_ms,
    )


def model_to_pb(card: ModelCard) -> pb.Model:
    """A model and what it accepts."""
    return pb.Model(
        name=card.name,
        created_at_s=card.created_at_s,
        max_context_tokens=card.max_context_tokens,
        vocabulary_size=card.vocabulary_size,
        eos_token_ids=card.eos_token_ids,
        tokenizer_fingerprint=card.tokenizer_fingerprint,
        checkpoint_fingerprint=card.checkpoint_fingerprint,
        chat=card.has_chat_template,
        defaults=pb.GenerationDefaults(
            temperature=card.defaults.temperature,
            top_p=card.defaults.top_p,
            top_k=card.defaults.top_k,
        ),
        capabilities=pb.Capabilities(**dataclasses.asdict(card.capabilities)),
        ready=card.ready,
    )


def _delta_to_pb(delta: Delta) -> pb.Delta:
    return pb.Delta(
        output_index=delta.output_index, text=delta.text, tokens=_tokens_to_pb(delta.tokens)
    )


def _tokens_to_pb(tokens: Sequence[Token]) -> list[pb.Token]:
    return [
        pb.Token(
            id=token.id,
            bytes=token.bytes,
            logprob=token.logprob,
            top=[pb.TopToken(id=top.id, bytes=top.bytes, logprob=top.logprob) for top in token.top],
        )
        for token in tokens
    ]


def _error_to_pb(error: OctavoError) -> pb.Error:
    return pb.Error(
        code=pb.ErrorCode.Value(f"ERROR_CODE_{error.code.name}"),
        reason=error.reason,
        message=error.message,
        metadata=error.metadata,
        retry_delay_ms=error.retry_delay_ms,
    )
