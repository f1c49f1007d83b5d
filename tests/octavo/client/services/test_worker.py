"""A worker client against a worker on a socket: items, cancels, loss, return."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from octavo.client.services.worker import WorkerClient
from octavo.client.services.worker_types import (
    FinishReason,
    OutputItem,
    ResolvedSampling,
    Submission,
)
from octavo.errors import OctavoError, UnavailableError
from tests.gateway.fake_tokenizer import EOS_ID
from tests.gateway.fake_worker import FakeWorker, say
from tests.gateway.waiting import until

SAMPLING = ResolvedSampling(temperature=0, top_p=1, top_k=0, seed=1, n=1)


class Sink:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.items: list[OutputItem] = []
        self.error: OctavoError | None = None

    def receive(self, item: OutputItem) -> None:
        self.items.append(item)

    def fail(self, error: OctavoError) -> None:
        self.error = error

    @property
    def has_ended(self) -> bool:
        return self.error is not None or bool(self.items and self.items[-1].timings)


def submission(**fields: object) -> Submission:
    given = {"request_id": "r", "prompt_token_ids": (1,), "sampling": SAMPLING, **fields}
    return Submission(**given)  # type: ignore[arg-type] # any field


@pytest_asyncio.fixture
async def worker() -> AsyncIterator[FakeWorker]:
    fake = FakeWorker()
    await fake.start()
    yield fake
    await fake.kill()


@pytest_asyncio.fixture
async def client(worker: FakeWorker) -> AsyncIterator[WorkerClient]:
    connected = WorkerClient(worker.address, gateway_id="g")
    connected.start()
    await until(lambda: connected.is_ready)
    yield connected
    await connected.close()


async def test_items_come_with_start_finish_and_times(
    worker: FakeWorker, client: WorkerClient
) -> None:
    worker.reply = say("ab")
    sink = Sink()
    client.submit(submission(stop_token_ids=(EOS_ID,)), sink)
    await until(lambda: sink.has_ended)
    assert [id_ for item in sink.items for id_ in item.token_ids] == [*b"ab", EOS_ID]
    assert [item.num_cached_prompt_tokens for item in sink.items] == [3, None, None]
    finish, timings = sink.items[-1].finish, sink.items[-1].timings
    assert finish is not None and timings is not None
    assert (finish.reason, finish.stop_token_id) == (FinishReason.STOP, EOS_ID)
    assert (timings.queue_ms, timings.prefill_ms, timings.decode_ms) == (1, 2, 3)
    assert client.num_open == 0


async def test_a_cancel_still_brings_the_end_and_a_close_does_not(
    worker: FakeWorker, client: WorkerClient
) -> None:
    cancelled, closed = Sink(), Sink()
    runs = [client.submit(submission(), sink) for sink in (cancelled, closed)]
    await until(lambda: bool(cancelled.items and closed.items))
    runs[0].cancel()
    runs[1].close()
    num_heard = len(closed.items)
    await until(lambda: worker.kv_blocks_used == 0 and cancelled.has_ended)
    finish = cancelled.items[-1].finish
    assert finish is not None and finish.reason is FinishReason.CANCELLED
    assert len(closed.items) == num_heard
    for run in runs:  # nothing is left to cancel
        run.close()
    assert sorted(worker.cancelled_keys) == [1, 2]


async def test_one_output_ends_and_the_other_goes_on(
    worker: FakeWorker, client: WorkerClient
) -> None:
    sink = Sink()
    two = submission(sampling=ResolvedSampling(temperature=1, top_p=1, top_k=0, seed=1, n=2))
    run = client.submit(two, sink)
    await until(lambda: bool(sink.items))
    run.cancel_output(1)
    await until(lambda: any(item.finish is not None for item in sink.items))
    (end,) = [item for item in sink.items if item.finish is not None]
    assert (end.output_index, end.timings) == (1, None)
    num_heard = len(sink.items)
    await until(lambda: len(sink.items) > num_heard)
    assert not sink.has_ended
    run.close()
    run.cancel_output(0)  # the whole request is
    await until(lambda: worker.kv_blocks_used == 0)
    assert worker.cancelled_outputs == [(1, 1)]


async def test_what_was_never_sent_is_not_cancelled(
    worker: FakeWorker, client: WorkerClient
) -> None:
    client.submit(submission(), Sink()).close()
    last = Sink()
    client.submit(submission(max_tokens=1), last)
    await until(lambda: last.has_ended)
    assert len(worker.submits) == 1
    assert worker.cancelled_keys == []


async def test_a_loss_ends_every_request_and_the_client_returns(
    worker: FakeWorker, client: WorkerClient
) -> None:
    changes: list[bool] = []
    client.on_change = lambda: changes.append(client.is_ready)
    sinks = [Sink() for _ in range(100)]
    for sink in sinks:
        client.submit(submission(), sink)
    await until(lambda: all(sink.items for sink in sinks))
    assert client.load.kv_blocks_used == 100
    await worker.kill()
    await until(lambda: all(sink.error for sink in sinks), within_s=1)
    assert {sink.error.reason for sink in sinks if sink.error} == {"WORKER_LOST"}
    assert not client.is_ready
    assert client.load.kv_blocks_used == 0
    with pytest.raises(UnavailableError):
        client.submit(submission(), Sink())
    await worker.start()
    await until(lambda: client.is_ready, within_s=3)
    assert changes == [False, True]


async def test_a_server_that_is_not_there_yet_is_found(worker: FakeWorker) -> None:
    await worker.kill()
    client = WorkerClient(worker.address, gateway_id="g")
    client.start()
    await asyncio.sleep(0)
    await worker.start(serving=False)
    await worker.set_serving(True)
    await until(lambda: client.is_ready)
    described = client.description
    assert described is not None and described.model == "tiny"
    await client.close()
    assert not client.is_ready
