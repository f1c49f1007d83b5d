"""Which peers take a request, and what is said where none can."""

from __future__ import annotations

from typing import cast

import pytest

from gateway.accepted_fields import capabilities
from gateway.routing import Routing
from octavo.client.services.tokenizer import TokenizerClient
from octavo.client.services.tokenizer_pool import TokenizerPool
from octavo.client.services.tokenizer_types import TokenizerDescription
from octavo.client.services.worker import WorkerClient
from octavo.client.services.worker_types import Load, WorkerDescription
from octavo.errors import InvalidArgumentError, UnavailableError


class Worker:
    """As much of a WorkerClient as routing looks at."""

    def __init__(self, model: str, *, ready: bool = True, fingerprint: str = "f") -> None:
        self.address = model
        self.is_ready = ready
        self.num_open = 0
        self.load = Load()
        self.description = WorkerDescription(
            worker_id="w",
            instance_id="1",
            ranks=1,
            model=model,
            max_context_tokens=8,
            vocabulary_size=9,
            eos_token_ids=(1,),
            default_temperature=0.0,
            default_top_p=None,
            default_top_k=0,
            checkpoint_fingerprint="c",
            tokenizer_fingerprint=fingerprint,
            numerics_fingerprint="n",
            fields=(),
            max_outputs=1,
            max_top_logprobs=0,
        )


class Tokenizer:
    """As much of a TokenizerClient as routing looks at."""

    def __init__(self, fingerprint: str = "f", *, ready: bool = True) -> None:
        self.address = fingerprint
        self.is_ready = ready
        self.num_open = 0
        self.num_losses = 0
        self.description = TokenizerDescription(
            fingerprint=fingerprint, vocabulary_size=9, has_chat_template=True, max_text_bytes=10
        )


def routing(workers: list[Worker], tokenizers: list[Tokenizer]) -> Routing:
    return Routing(
        workers=cast(list[WorkerClient], workers),
        tokenizers=TokenizerPool(cast(list[TokenizerClient], tokenizers), wait_s=0),
        capabilities=capabilities(max_prompt_bytes=1_000, max_session_requests=1),
    )


def chosen(routes: Routing, name: str | None = None) -> object:
    model = routes.model(name)
    return routes.worker(model, routes.tokenizer(model).description.fingerprint)


def test_the_least_loaded_group_takes_the_request() -> None:
    queued, busy, full, free = (Worker("m") for _ in range(4))
    queued.num_open = 3  # sent, not yet seen in a load
    busy.load = Load(running=2)
    full.load = Load(running=1, kv_blocks_used=9, kv_blocks_total=10)
    free.load = Load(running=1, kv_blocks_used=1, kv_blocks_total=10)
    assert chosen(routing([queued, busy, full, free], [Tokenizer()])) is free


def test_a_model_is_named_where_there_are_several() -> None:
    first, second = Worker("a"), Worker("b")
    routes = routing([first, second], [Tokenizer()])
    assert chosen(routes, "b") is second
    with pytest.raises(InvalidArgumentError) as raised:
        routes.model(None)
    assert raised.value.metadata == {"field": "model", "value": "absent", "limit": "one of a, b"}
    assert [card.name for card in routes.models()] == ["a", "b"]


def test_a_pair_needs_the_same_tokenizer() -> None:
    first, second = Worker("m", fingerprint="other"), Worker("m")
    routes = routing([first, second], [Tokenizer("third"), Tokenizer()])
    assert chosen(routes) is second
    assert routes.is_ready()


def test_an_explicit_zero_of_the_checkpoint_is_a_default() -> None:
    defaults = routing([Worker("m")], [Tokenizer()]).model("m").defaults
    assert (defaults.temperature, defaults.top_p, defaults.top_k) == (0.0, 1.0, 0)


def test_a_prompt_may_have_no_more_bytes_than_the_tokenizer_takes() -> None:
    card = routing([Worker("m")], [Tokenizer()]).model("m")
    assert card.capabilities.max_prompt_bytes == 10


@pytest.mark.parametrize(
    ("workers", "tokenizers", "reason"),
    [
        ([], [Tokenizer()], "NO_WORKER"),
        ([Worker("m", ready=False)], [Tokenizer()], "NO_WORKER"),
        ([Worker("m")], [Tokenizer(ready=False)], "NO_TOKENIZER"),
    ],
)
def test_what_is_missing_is_named(
    workers: list[Worker], tokenizers: list[Tokenizer], reason: str
) -> None:
    routes = routing(workers, tokenizers)
    with pytest.raises(UnavailableError) as raised:
        chosen(routes)
    assert raised.value.reason == reason
    assert raised.value.retry_delay_ms
    assert not routes.is_ready()
