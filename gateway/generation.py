"""The life of a request, shared by both doors (gRPC and HTTP).

1 validate · 2 admit · 3 render and encode · 4 route · 5 submit to the worker · 6 per step: ids to
text · 7 events to the client · 8 usage. Whatever ends it (the client, a deadline, a lost peer, or
the end itself) leaves through `OutputStream.close`, which ends it everywhere.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager

import structlog

from gateway import submission as submissions
from gateway.admission import Admission
from gateway.cancellation import Cancellation
from gateway.events import Accepted, Event, Finished, FinishReason, Usage
from gateway.model_card import Capabilities, ModelCard
from gateway.output_stream import OutputStream
from gateway.prompt import prompt_token_ids
from gateway.request import GenerationRequest
from gateway.routing import Routing
from gateway.validation import (
    check_against_model,
    check_prompt_length,
    check_request,
    input_bytes,
    input_field,
)
from octavo.client.tokenizer import TokenizerClient
from octavo.client.worker import WorkerClient
from octavo.errors import DeadlineExceededError, OctavoError

log = structlog.get_logger()


class Generation:
    """Takes requests from the doors and answers with events."""

    def __init__(
        self, *, routing: Routing, admission: Admission, capabilities: Capabilities
    ) -> None:
        self._routing = routing
        self._admission = admission
        self._capabilities = capabilities
        self._open: set[OutputStream] = set()

    async def generate(
        self, request: GenerationRequest, cancellation: Cancellation | None = None
    ) -> AsyncGenerator[Event, None]:
        """The events of one generation; raises OctavoError instead of the rest where it fails.

        Closing the iterator ends the generation everywhere. `cancellation` ends it as an answer:
        Finished CANCELLED, then Usage.
        """
        cancellation = cancellation or Cancellation()
        model = self._validated(request)
        with self._admission.admit(input_bytes(request)):
            tokenizer = self._routing.tokenizer(model)
            prompt_ids = await cancellation.interrupt(self._encoded(request, model, tokenizer))
            if prompt_ids is None:
                for event in _cancelled_before_submit(request, model):
                    yield event
                return
            worker = self._routing.worker(model, tokenizer)
            with self._submitted(request, prompt_ids, model, worker, tokenizer) as stream:
                cancellation.when_asked(stream.cancel)
                async for event in stream.events:
                    yield event

    def list_models(self) -> list[ModelCard]:
        """All models that this gateway knows, ordered by name."""
        return self._routing.models()

    def get_model(self, name: str | None) -> ModelCard:
        """One model, or the only one; raises NotFoundError."""
        return self._routing.model(name)

    def is_ready(self) -> bool:
        """Whether a request can be served now."""
        return not self._admission.is_draining and self._routing.is_ready()

    def end_all(self, error: OctavoError) -> None:
        """Ends what is open with `error`, when a drain has run out of time."""
        for stream in list(self._open):
            stream.fail(error)

    def _validated(self, request: GenerationRequest) -> ModelCard:
        check_request(request, max_prompt_bytes=self._capabilities.max_prompt_bytes)
        model = self._routing.model(request.model)
        check_against_model(request, model)
        return model

    async def _encoded(
        self, request: GenerationRequest, model: ModelCard, tokenizer: TokenizerClient
    ) -> Sequence[int]:
        timeout_s = submissions.remaining_s(request)
        if timeout_s == 0:
            raise DeadlineExceededError("The deadline of the request had passed on arrival.")
        prompt_ids = await prompt_token_ids(request, tokenizer, timeout_s=timeout_s)
        check_prompt_length(input_field(request), len(prompt_ids), model)
        return prompt_ids

    @contextmanager
    def _submitted(
        self,
        request: GenerationRequest,
        prompt_ids: Sequence[int],
        model: ModelCard,
        worker: WorkerClient,
        tokenizer: TokenizerClient,
    ) -> Iterator[OutputStream]:
        """The request on its worker's stream, until it has ended there too."""
        submission = submissions.resolve(request, prompt_ids, model)
        stream = OutputStream(submissions.plan(request, submission, model), tokenizer)
        self._open.add(stream)
        try:
            stream.opened(worker.submit(submission, stream))
            yield stream
        except OctavoError as error:
            log.info("failed", request_id=request.request_id, reason=error.reason)
            raise
        finally:
            self._open.discard(stream)
            stream.close()


def _cancelled_before_submit(request: GenerationRequest, model: ModelCard) -> Iterator[Event]:
    """What a client hears that cancelled before its prompt was encoded: all counts are 0."""
    yield Accepted(
        request_id=request.request_id,
        model=model.name,
        num_prompt_tokens=0,
        num_cached_prompt_tokens=0,
        seed=request.sampling.seed or 0,
    )
    yield Finished(output_index=0, reason=FinishReason.CANCELLED)
    yield Usage(
        num_prompt_tokens=0,
        num_cached_prompt_tokens=0,
        num_completion_tokens=0,
        queue_ms=0.0,
        prefill_ms=0.0,
        first_token_ms=0.0,
        decode_ms=0.0,
    )
