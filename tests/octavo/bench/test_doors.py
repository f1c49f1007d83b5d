"""Every door sees the same of the same jobs; on real gRPC, and on httpx's own stand-in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from octavo.bench.doors import DOORS
from octavo.bench.http_door import Http
from octavo.bench.load import closed_loop
from octavo.bench.target import Target
from octavo.bench.workload import Job
from tests.octavo.bench.fake_product import ENDLESS_TOKENS, FAILING_ID, FakeGeneration, serving

GRPC = ["unary", "stream", "session"]


def job(number: int = 1, *, cancel_after: int | None = None, max_tokens: int = 5) -> Job:
    return Job(number=number, prompt_ids=(3, 4), max_tokens=max_tokens, cancel_after=cancel_after)


@pytest.mark.parametrize("name", GRPC)
async def test_answers_come_whole(name: str) -> None:
    async with serving(FakeGeneration()) as address, DOORS[name](Target(grpc=address)) as door:
        samples = await closed_loop(door, [job(number) for number in range(6)], concurrency=3)
    assert [sample.num_tokens for sample in samples] == [5] * 6
    assert all(sample.is_finished for sample in samples)
    num_arrivals = 0 if name == "unary" else 5
    assert [len(sample.arrivals) for sample in samples] == [num_arrivals] * 6


@pytest.mark.parametrize("name", GRPC)
async def test_an_error_is_its_reason(name: str) -> None:
    failing = Job(number=1, prompt_ids=(FAILING_ID,), max_tokens=5)
    async with serving(FakeGeneration()) as address, DOORS[name](Target(grpc=address)) as door:
        sample = await door.generate(failing)
        after = await door.generate(job(2))
    assert sample.error == "QUEUE_FULL"
    assert after.is_finished


@pytest.mark.parametrize("name", ["stream", "session"])
async def test_a_cancel_reaches_the_server(name: str) -> None:
    service = FakeGeneration()
    async with serving(service) as address, DOORS[name](Target(grpc=address)) as door:
        sample = await door.generate(job(cancel_after=2, max_tokens=ENDLESS_TOKENS))
        after = await door.generate(job(2))
        async with asyncio.timeout(10):
            while service.cancelled == 0:
                await asyncio.sleep(0.001)
    assert sample.is_cancelled
    assert not sample.is_finished
    assert sample.error is None
    assert sample.num_tokens == len(sample.arrivals) >= 2
    assert after.is_finished


@pytest.mark.parametrize("name", GRPC)
async def test_a_product_that_is_not_there_is_an_error(name: str) -> None:
    async with serving(FakeGeneration()) as address:
        pass
    target = Target(grpc=address, request_limit_s=5)
    async with DOORS[name](target) as door:
        sample = await door.generate(job())
    assert sample.error == "UNAVAILABLE"
    assert sample.num_tokens == 0


async def test_an_answer_of_another_length_is_an_error() -> None:
    async with http(events(*texts("a", "b"), usage(2))) as door:
        sample = await door.generate(job())
    assert sample.error == "WRONG_LENGTH"


async def test_http_counts_texts_and_reads_the_usage() -> None:
    async with http(events(*texts("a", "", "b", "c"), usage(5), "[DONE]")) as door:
        sample = await door.generate(job())
    assert sample.is_finished
    assert sample.num_tokens == 5
    assert len(sample.arrivals) == 3


async def test_http_cancels_by_leaving() -> None:
    async with http(events(*texts("a", "b", "c"), usage(5))) as door:
        sample = await door.generate(job(cancel_after=2))
    assert sample.is_cancelled
    assert sample.num_tokens == 2


@pytest.mark.parametrize("status", [200, 429])
async def test_http_errors_are_their_code(status: int) -> None:
    error = {"error": {"message": "full", "type": "server_error", "code": "queue_full"}}
    body = events(json.dumps(error)) if status == 200 else json.dumps(error).encode()
    async with http(body, status) as door:
        sample = await door.generate(job())
    assert sample.error == "QUEUE_FULL"


def http(body: bytes, status: int = 200) -> _HttpDoor:
    return _HttpDoor(body, status)


class _HttpDoor:
    """The HTTP door to a server that answers every request alike."""

    def __init__(self, body: bytes, status: int) -> None:
        async def content() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 11):  # events do not come in whole packets
                yield body[start : start + 11]

        transport = httpx.MockTransport(lambda _: httpx.Response(status, content=content()))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://test")

    async def __aenter__(self) -> Http:
        return Http(self._client, Target(grpc="unused", http="http://test"))

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()


def events(*data: str) -> bytes:
    return b": ping\n\n" + b"".join(f"data: {one}\n\n".encode() for one in data)


def texts(*parts: str) -> list[str]:
    return [json.dumps({"choices": [{"text": part}], "usage": None}) for part in parts]


def usage(count: int) -> str:
    return json.dumps({"choices": [], "usage": {"completion_tokens": count}})
