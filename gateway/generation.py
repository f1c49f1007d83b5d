"""The life of a request, shared by both doors (gRPC and HTTP).

1 validate · 2 admit · 3 render and encode · 4 route · 5 submit to the worker · 6 per step: ids to
text · 7 events to the client · 8 usage. Whatever ends it (the client, a deadline, a lost peer, or
the end itself) leaves through `OutputStream.close`, which ends it everywhere.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

from gateway import submission as submissions
from gateway.admission import Admission
from gateway.cancellation import Cancellation
from gateway.events import Accepted, Event, Finished, FinishReason, Usage
from gateway.metrics import GatewayMetrics
from gateway.model_card import Capabilities, ModelCard
from gateway.model_checks import check_against_model, input_field
from gateway.open_generations import OpenGenerations
from gateway.output_stream import OutputStream
from gateway.preparation import Prepared, prepare
from gateway.request import GenerationRequest
from gateway.request_record import current_record
from gateway.routing import Routing
from gateway.token_table import TokenTables
from gateway.validation import check_request, input_bytes
from octavo.client.services.replicated_tokenizer import ReplicatedTokenizer
from octavo.client.services.worker import WorkerClient
from octavo.rpc.admin import OpenRequest
from octavo.rpc.request_id import bind_request_id


class Generation:
    """Takes requests from the doors and answers with events."""

    def __init__(
        self,
        *,
        routing: Routing,
        admission: Admission,
        capabilities: Capabilities,
        metrics: GatewayMetrics,
    ) -> None:
        self._routing = routing
        self._admission = admission
        self._capabilities = capabilities
        self._metrics = metrics
        self._tables = TokenTables()
        self.open = OpenGenerations()

    async def generate(
        self, request: GenerationRequest, cancellation: Cancellation | None = None
    ) -> AsyncGenerator[Event, None]:
        """The events of one generation; raises OctavoError instead of the rest where it fails.

        Closing the iterator ends the generation everywhere. `cancellation` ends it as an answer:
        Finished CANCELLED, then Usage.
        """
        cancellation = cancellation or Cancellation()
        bind_request_id(request.request_id)
        with current_record().noting_failures() as record:
            model = self._validated(request)
            record.model = model.name
            with self._admitted(request, cancellation):
                tokenizer = self._routing.tokenizer(model)
                preparing = prepare(request, model, tokenizer, self._tables)
                prepared = await cancellation.interrupt(preparing)
                if prepared is None:
                    for event in _cancelled_before_submit(request, model):
                        record.note(event)
                        yield event
                    return
                worker = self._routing.worker(model, tokenizer.description.fingerprint)
                times = self._metrics.delta_times(model.name, request.arrived_at)
                with self._submitted(request, prepared, model, worker, tokenizer) as stream:
                    cancellation.when_asked(stream.end_early)
                    async for event in stream.events:
                        record.note(event)
                        times.note(event)
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

    def _validated(self, request: GenerationRequest) -> ModelCard:
        check_request(request, max_prompt_bytes=self._capabilities.max_prompt_bytes)
        model = self._routing.model(request.model)
        check_against_model(request, model)
        return model

    @contextmanager
    def _admitted(self, request: GenerationRequest, cancellation: Cancellation) -> Iterator[None]:
        """Holds a place for the request, and makes it known to the operator."""
        known = OpenRequest(request_id=request.request_id, began_at=request.arrived_at)
        with (
            self._admission.admit(
                input_bytes(request),
                num_outputs=request.sampling.n or 1,
                input_field=input_field(request),
            ),
            self.open.holding(known, cancellation),
        ):
            yield

    @contextmanager
    def _submitted(
        self,
        request: GenerationRequest,
        prepared: Prepared,
        model: ModelCard,
        worker: WorkerClient,
        tokenizer: ReplicatedTokenizer,
    ) -> Iterator[OutputStream]:
        """The request on its worker's stream, until it has ended there too."""
        submission = submissions.resolve(request, prepared, model)
        plan = submissions.plan(request, prepared, submission, model)
        stream = OutputStream(plan, tokenizer)
        try:
            stream.opened(worker.submit(submission, stream))
            yield stream
        finally:
            stream.close()
            num_tokens = (len(prepared.prompt_ids), stream.num_completion_tokens)
            record = current_record()
            record.count_tokens(*num_tokens)
            record.note_times(
                queue_ms=stream.timings.queue_ms, first_token_ms=stream.first_token_ms
            )
            self._metrics.count_tokens(model.name, *num_tokens)


def _cancelled_before_submit(request: GenerationRequest, model: ModelCard) -> Iterator[Event]:
    """What a client hears that cancelled before its prompt was encoded: all counts are 0."""
    yield Accepted(
        request_id=request.request_id,
        model=model.name,
        num_prompt_tokens=0,
        num_cached_prompt_tokens=0,
        seed=request.sampling.seed or 0,
    )
    for index in range(request.sampling.n or 1):
        yield Finished(output_index=index, reason=FinishReason.CANCELLED)
    yield Usage(
        num_prompt_tokens=0,
        num_cached_prompt_tokens=0,
        num_completion_tokens=0,
        queue_ms=0.0,
        prefill_ms=0.0,
        first_token_ms=0.0,
        decode_ms=0.0,
    )
