"""Which tokenizer and which worker group take a request, and what models there are.

A pair fits where both serve and report the same tokenizer fingerprint: ids mean the same to both.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from gateway.accepted_fields import bounded_by
from gateway.model_card import Capabilities, GenerationDefaults, ModelCard
from octavo.client.services.replicated_tokenizer import ReplicatedTokenizer
from octavo.client.services.tokenizer import TokenizerClient
from octavo.client.services.tokenizer_pool import TokenizerPool, no_tokenizer
from octavo.client.services.worker import WorkerClient
from octavo.client.services.worker_types import WorkerDescription
from octavo.errors import (
    FailedPreconditionError,
    NotFoundError,
    OctavoError,
    UnavailableError,
    invalid_field,
)

RETRY_DELAY_MS = 1_000


class Routing:
    """The workers and tokenizers that this gateway was given."""

    def __init__(
        self,
        *,
        workers: Sequence[WorkerClient],
        tokenizers: TokenizerPool,
        capabilities: Capabilities,
    ) -> None:
        self._workers = workers
        self._tokenizers = tokenizers
        self._capabilities = capabilities
        self._known_since_s: dict[str, int] = {}

    def models(self) -> list[ModelCard]:
        """All models, also those that no worker group serves just now, ordered by name."""
        by_name: dict[str, WorkerDescription] = {}
        for worker in sorted(self._workers, key=lambda w: w.is_ready):
            if worker.description is not None:  # of several, one that is ready speaks
                by_name[worker.description.model] = worker.description
        return [self._card(by_name[name]) for name in sorted(by_name)]

    def model(self, name: str | None) -> ModelCard:
        """The model of that name, or the only one."""
        cards = self.models()
        if not cards:
            raise _no_worker("any model")
        names = [card.name for card in cards]
        if name is None:
            if len(cards) > 1:
                raise invalid_field("model", None, f"one of {', '.join(names)}")
            return cards[0]
        if name not in names:
            raise _unknown_model(name, names)
        return cards[names.index(name)]

    def tokenizer(self, model: ModelCard) -> ReplicatedTokenizer:
        """The tokenizers that serve and speak the ids of a serving worker group of the model."""
        for fingerprint in self._fingerprints(model.name):
            tokenizer = self._tokenizers.pick(fingerprint)
            if tokenizer is not None and tokenizer.description is not None:
                return ReplicatedTokenizer(tokenizer.description, self._tokenizers)
        raise self._why_not(model.name)

    def worker(self, model: ModelCard, fingerprint: str) -> WorkerClient:
        """The least loaded worker group that serves the model with a tokenizer's ids."""
        fitting = [
            worker
            for worker in self._ready_workers(model.name)
            if worker.description and worker.description.tokenizer_fingerprint == fingerprint
        ]
        if not fitting:
            raise self._why_not(model.name)
        return min(fitting, key=_pressure)

    def is_ready(self) -> bool:
        """Whether any request can be served now."""
        return any(self._serves(card.name) for card in self.models())

    def _serves(self, name: str) -> bool:
        return any(self._tokenizers.pick(fingerprint) for fingerprint in self._fingerprints(name))

    def _fingerprints(self, name: str) -> list[str]:
        """The fingerprints of the tokenizers whose ids the model's serving groups speak."""
        workers = self._ready_workers(name)
        spoken = [w.description.tokenizer_fingerprint for w in workers if w.description]
        return list(dict.fromkeys(spoken))

    def _ready_workers(self, name: str) -> list[WorkerClient]:
        return [
            w for w in self._workers if w.is_ready and w.description and w.description.model == name
        ]

    def _why_not(self, name: str) -> OctavoError:
        workers = self._ready_workers(name)
        tokenizers = [t for t in self._tokenizers.tokenizers if t.is_ready]
        if not workers:
            return _no_worker(name)
        if not tokenizers:
            return no_tokenizer()
        return _mismatch(workers[0], tokenizers[0])

    def _card(self, worker: WorkerDescription) -> ModelCard:
        known_since_s = self._known_since_s.setdefault(worker.model, int(time.time()))
        known = self._tokenizers.tokenizers
        described = (t.description for t in known if t.description is not None)
        fitting = [d for d in described if d.fingerprint == worker.tokenizer_fingerprint]
        max_bytes = self._capabilities.max_prompt_bytes
        return ModelCard(
            name=worker.model,
            created_at_s=known_since_s,
            max_context_tokens=worker.max_context_tokens,
            vocabulary_size=worker.vocabulary_size,
            eos_token_ids=worker.eos_token_ids,
            tokenizer_fingerprint=worker.tokenizer_fingerprint,
            checkpoint_fingerprint=worker.checkpoint_fingerprint,
            has_chat_template=any(description.has_chat_template for description in fitting),
            defaults=_defaults(worker),
            capabilities=bounded_by(
                self._capabilities,
                worker,
                max_text_bytes=min((d.max_text_bytes for d in fitting), default=max_bytes),
            ),
            ready=self._serves(worker.model),
        )


def _defaults(worker: WorkerDescription) -> GenerationDefaults:
    """The checkpoint's own defaults, or else: draw from the whole distribution as it is."""
    temperature, top_p, top_k = (
        worker.default_temperature,
        worker.default_top_p,
        worker.default_top_k,
    )
    return GenerationDefaults(
        temperature=1.0 if temperature is None else temperature,
        top_p=1.0 if top_p is None else top_p,
        top_k=0 if top_k is None else top_k,
    )


def _pressure(worker: WorkerClient) -> tuple[int, float]:
    """Requests that the group has, then the share of its blocks in use.

    The load is that of the group's last step, so what was sent since is counted here.
    """
    load = worker.load
    num_requests = max(worker.num_open, load.running + load.waiting)
    return num_requests, load.kv_blocks_used / max(load.kv_blocks_total, 1)


def _no_worker(name: str) -> UnavailableError:
    return UnavailableError(
        f"No worker group serves {name} now.",
        reason="NO_WORKER",
        metadata={"model": name},
        retry_delay_ms=RETRY_DELAY_MS,
    )


def _unknown_model(name: str, names: Sequence[str]) -> NotFoundError:
    return NotFoundError(
        f"The model {name!r} is not served here; there is {', '.join(names)}.",
        reason="MODEL_NOT_FOUND",
        metadata={"field": "model", "value": name, "limit": ", ".join(names)},
    )


def _mismatch(worker: WorkerClient, tokenizer: TokenizerClient) -> FailedPreconditionError:
    assert worker.description is not None and tokenizer.description is not None
    return FailedPreconditionError(
        "The tokenizer service and the worker group were started with different tokenizer files.",
        reason="TOKENIZER_MISMATCH",
        metadata={
            "worker": worker.address,
            "worker_fingerprint": worker.description.tokenizer_fingerprint,
            "tokenizer": tokenizer.address,
            "tokenizer_fingerprint": tokenizer.description.fingerprint,
        },
    )
