"""From the messages of generation.proto to the types of generation_types.py and model_types.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields

from octavo.client.generation_types import (
    Accepted,
    Delta,
    Event,
    Finished,
    FinishReason,
    Generation,
    Output,
    Token,
    TopToken,
    Usage,
)
from octavo.client.model_types import Capabilities, GenerationDefaults, Model, Tokenization
from octavo.errors import DataLossError, OctavoError, error_from_code
from octavo.v1 import generation_pb2 as pb

_FINISH_REASONS = {
    pb.FinishReason.Value(f"FINISH_REASON_{reason}"): reason for reason in FinishReason
}


def event_from_pb(message: pb.StreamGenerateResponse | pb.OpenSessionResponse) -> Event | None:
    """The event that a message carries; None for one that this version does not know."""
    match message.WhichOneof("event"):
        case "accepted":
            return accepted_from_pb(message.accepted)
        case "delta":
            return _delta_from_pb(message.delta)
        case "finished":
            return _finished_from_pb(message.finished)
        case "usage":
            return _usage_from_pb(message.usage)
    return None


def generation_from_pb(message: pb.GenerateResponse) -> Generation:
    """A whole answer."""
    if not message.outputs:
        raise DataLossError("The server's answer holds no output.", reason="ANSWER_TRUNCATED")
    return Generation(
        accepted=accepted_from_pb(message.accepted),
        outputs=tuple(_output_from_pb(output) for output in message.outputs),
        usage=_usage_from_pb(message.usage),
    )


def accepted_from_pb(accepted: pb.Accepted) -> Accepted:
    """What was accepted."""
    return Accepted(
        request_id=accepted.request_id,
        model=accepted.model,
        prompt_token_count=accepted.prompt_token_count,
        cached_prompt_token_count=accepted.cached_prompt_token_count,
        seed=accepted.seed,
        prompt_tokens=_tokens_from_pb(accepted.prompt_tokens),
    )


def error_from_pb(error: pb.Error) -> OctavoError:
    """The exception that an `error` event stands for."""
    return error_from_code(
        error.code,
        error.message,
        reason=error.reason or None,
        metadata=error.metadata,
        retry_delay_ms=error.retry_delay_ms if error.HasField("retry_delay_ms") else None,
    )


def model_from_pb(model: pb.Model) -> Model:
    """One model."""
    return Model(
        name=model.name,
        created_at_s=model.created_at_s,
        max_context_tokens=model.max_context_tokens,
        vocabulary_size=model.vocabulary_size,
        eos_token_ids=tuple(model.eos_token_ids),
        tokenizer_fingerprint=model.tokenizer_fingerprint,
        checkpoint_fingerprint=model.checkpoint_fingerprint,
        chat=model.chat,
        ready=model.ready,
        defaults=GenerationDefaults(
            temperature=model.defaults.temperature,
            top_p=model.defaults.top_p,
            top_k=model.defaults.top_k,
        ),
        capabilities=_capabilities_from_pb(model.capabilities),
    )


def tokenization_from_pb(answer: pb.TokenizeResponse) -> Tokenization:
    """A text as token ids."""
    return Tokenization(
        token_ids=tuple(answer.token_ids),
        token_bytes=tuple(answer.token_bytes),
        rendered_text=answer.rendered_text,
        max_context_tokens=answer.max_context_tokens,
    )


def _output_from_pb(output: pb.Output) -> Output:
    return Output(
        output_index=output.output_index,
        text=output.text,
        tokens=_tokens_from_pb(output.tokens),
        finished=_finished_from_pb(output.finished),
    )


def _delta_from_pb(delta: pb.Delta) -> Delta:
    return Delta(
        output_index=delta.output_index, text=delta.text, tokens=_tokens_from_pb(delta.tokens)
    )


def _finished_from_pb(finished: pb.Finished) -> Finished:
    matched = finished.WhichOneof("stop")
    sequence = tuple(finished.stop_token_sequence.ids)
    return Finished(
        output_index=finished.output_index,
        reason=_FINISH_REASONS.get(finished.reason, FinishReason.UNSPECIFIED),
        stop_text=finished.stop_text if matched == "stop_text" else None,
        stop_token_id=finished.stop_token_id if matched == "stop_token_id" else None,
        stop_token_sequence=sequence if matched == "stop_token_sequence" else None,
    )


def _usage_from_pb(usage: pb.Usage) -> Usage:
    return Usage(
        prompt_token_count=usage.prompt_token_count,
        cached_prompt_token_count=usage.cached_prompt_token_count,
        completion_token_count=usage.completion_token_count,
        queue_ms=usage.queue_ms,
        prefill_ms=usage.prefill_ms,
        first_token_ms=usage.first_token_ms,
        decode_ms=usage.decode_ms,
    )


def _tokens_from_pb(tokens: Iterable[pb.Token]) -> Sequence[Token]:
    return tuple(
        Token(
            id=token.id,
            bytes=token.bytes,
            logprob=token.logprob if token.HasField("logprob") else None,
            top=tuple(
                TopToken(id=top.id, bytes=top.bytes, logprob=top.logprob) for top in token.top
            ),
        )
        for token in tokens
    )


def _capabilities_from_pb(message: pb.Capabilities) -> Capabilities:
    """All but the list are limits, which have the same names here."""
    limits = [field.name for field in fields(Capabilities) if field.name != "fields"]
    return Capabilities(
        fields=tuple(message.fields), **{name: getattr(message, name) for name in limits}
    )
