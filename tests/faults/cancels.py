"""Requests that are cancelled at random moments, through every door."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from octavo.v1 import generation_pb2 as pb
from octavo.v1 import generation_pb2_grpc
from tests.end_to_end.product import Product

# With 16 that run at once, most of what so many clients ask for waits in the queue.
NUM_CLIENTS = 24
SESSION_REQUESTS = 10
LONGEST_WAIT_S = 0.05


async def cancel_many(
    product: Product, num_cancels: int, *, max_outputs: int, seed: int
) -> Counter[str]:
    """Opens and cancels requests until `num_cancels` were cancelled; counts of those in sessions
    how far they had come.
    """
    left = iter(range(num_cancels))
    async with grpc.aio.insecure_channel(product.grpc) as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        host, port = product.http.removeprefix("http://").split(":")
        clients = [
            _Client(stub, (host, int(port)), max_outputs, random.Random(f"{seed} {number}"))
            for number in range(NUM_CLIENTS)
        ]
        await asyncio.gather(*(client.cancel_while(left) for client in clients))
    return sum((client.reached for client in clients), Counter())


class _Client:
    """Does one thing after the other."""

    def __init__(
        self,
        stub: generation_pb2_grpc.GenerationServiceAsyncStub,
        http: tuple[str, int],
        max_outputs: int,
        rng: random.Random,
    ) -> None:
        self._stub = stub
        self._http = http
        self._max_outputs = max_outputs
        self._rng = rng
        self.reached: Counter[str] = Counter()

    async def cancel_while(self, left: Any) -> None:
        acts: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self._cancel_a_stream, 1),
            (self._cancel_a_call, 1),
            (self._leave_http, 1),
            (self._cancel_in_a_session, SESSION_REQUESTS),
            (self._drop_a_session, SESSION_REQUESTS),
        ]
        while True:
            act, num_cancels = self._rng.choice(acts)
            for _ in range(num_cancels):
                if next(left, None) is None:
                    return
            async with asyncio.timeout(30):
                await act()

    def _request(self) -> pb.GenerateRequest:
        """One that ends of itself only long after it was cancelled."""
        rng = self._rng
        length = rng.choice([3, 40, 300])
        return pb.GenerateRequest(
            token_ids=pb.TokenIds(ids=[rng.randrange(3, 259) for _ in range(length)]),
            sampling=pb.SamplingParameters(temperature=1, n=rng.randint(1, self._max_outputs)),
            stopping=pb.StoppingParameters(ignore_eos=True, stop=["never"]),
            output=pb.OutputOptions(text=rng.random() < 0.7, token_ids=True),
        )

    async def _a_moment(self) -> None:
        """A wait that ends while the request is queued, prefilling or decoding."""
        await asyncio.sleep(self._rng.random() * LONGEST_WAIT_S)

    async def _cancel_a_stream(self) -> None:
        call = self._stub.StreamGenerate(self._request())
        num_events = self._rng.choice([0, 1, 2, 20])
        with suppress(asyncio.CancelledError):
            async for _ in call:
                num_events -= 1
                if num_events < 0:
                    call.cancel()

    async def _cancel_a_call(self) -> None:
        call = self._stub.Generate(self._request())
        await self._a_moment()
        call.cancel()

    async def _leave_http(self) -> None:
        """A client that closes its connection: before the answer begins, or in it."""
        request = self._request()
        body = json.dumps(
            {
                "prompt": list(request.token_ids.ids),
                "max_tokens": 200,
                "n": request.sampling.n,
                "stream": self._rng.random() < 0.7,
                "ignore_eos": True,
            }
        )
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        reader, writer = await asyncio.open_connection(*self._http)
        writer.write(f"{head}Content-Type: application/json\r\n\r\n{body}".encode())
        await self._a_moment()
        if self._rng.random() < 0.5:
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_WAIT_S):
                    answer = await reader.read(4096)
                    assert answer.startswith(b"HTTP/1.1 200"), answer
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _drop_a_session(self) -> None:
        call = self._stub.OpenSession()
        for key in range(SESSION_REQUESTS):
            await call.write(pb.OpenSessionRequest(key=key, open=self._request()))
        await self._a_moment()
        call.cancel()

    async def _cancel_in_a_session(self) -> None:
        """Each request ends with a cancel, at a moment of its own; the session goes on."""
        ended: set[int] = set()
        async for answer in self._stub.OpenSession(self._opens_and_cancels()):
            assert answer.WhichOneof("event") != "error", answer
            if answer.HasField("finished"):
                assert answer.finished.reason == pb.FINISH_REASON_CANCELLED
            if answer.HasField("usage"):
                ended.add(answer.key)
                self.reached[_reached(answer.usage)] += 1
        assert ended == set(range(SESSION_REQUESTS))

    async def _opens_and_cancels(self) -> AsyncIterator[pb.OpenSessionRequest]:
        for key in range(SESSION_REQUESTS):
            yield pb.OpenSessionRequest(key=key, open=self._request())
        for key in range(SESSION_REQUESTS):
            await self._a_moment()
            yield pb.OpenSessionRequest(key=key, cancel=pb.CancelGeneration())


def _reached(usage: pb.Usage) -> str:
    if usage.completion_token_count:
        return "decoding"
    return "prefilling" if usage.prefill_ms else "queued"
