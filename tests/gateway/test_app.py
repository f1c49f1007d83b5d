"""The gateway as a process: its listeners, its metrics, its end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import grpc
import grpc.aio
import pytest

from octavo.errors import ResourceExhaustedError, UnavailableError
from octavo.rpc.status import error_from_rpc
from octavo.v1 import generation_pb2 as pb
from octavo.v1 import generation_pb2_grpc
from tests.gateway.fake_tokenizer import FakeTokenizer
from tests.gateway.fake_worker import FakeWorker, say
from tests.gateway.waiting import until

pytestmark = pytest.mark.slow


@dataclass(frozen=True, kw_only=True)
class Running:
    """A gateway process and where it listens."""

    process: asyncio.subprocess.Process
    http_port: int
    grpc_port: int
    metrics_port: int


async def start(*flags: str, stderr: int = asyncio.subprocess.PIPE) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *flags, stderr=stderr
    )


@asynccontextmanager
async def running(
    worker: FakeWorker,
    tokenizer: FakeTokenizer,
    folder: Path,
    *flags: str,
    stderr: int = asyncio.subprocess.PIPE,
) -> AsyncIterator[Running]:
    ready_file = folder / "ready.json"
    ports = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
    peers = ("--worker", worker.address, "--tokenizer", tokenizer.address)
    files = ("--ready-file", str(ready_file))
    process = await start(*ports, *peers, *files, *flags, stderr=stderr)
    try:
        await until(ready_file.exists, within_s=20)
        yield Running(process=process, **json.loads(ready_file.read_text()))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def get(port: int, path: str, body: object = None) -> tuple[int, str]:
    url = f"http://127.0.0.1:{port}{path}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})

    def fetch() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(fetch)


async def post(port: int, body: object) -> tuple[int, Message]:
    """The status and the headers of a completion."""
    url = f"http://127.0.0.1:{port}/v1/completions"
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)

    def send() -> tuple[int, Message]:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers

    return await asyncio.to_thread(send)


async def until_status(port: int, status: int) -> None:
    async with asyncio.timeout(5):
        while (await get(port, "/health"))[0] != status:
            await asyncio.sleep(0.01)


async def test_it_serves_reports_the_workers_load_and_drains(
    worker: FakeWorker, tokenizer: FakeTokenizer, tmp_path: Path
) -> None:
    async with running(worker, tokenizer, tmp_path) as gateway:
        await until_status(gateway.http_port, 200)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.grpc_port}") as channel:
            stub = generation_pb2_grpc.GenerationServiceStub(channel)
            limits = pb.StoppingParameters(max_tokens=300)
            call = stub.StreamGenerate(pb.GenerateRequest(prompt="hi", stopping=limits))
            responses = aiter(call)
            await anext(responses)
            _, metrics = await get(gateway.metrics_port, "/metrics")
            assert re.search(rf'generated_tokens_total{{worker="{worker.address}"}} [1-9]', metrics)
            for name in ("kv_blocks_used", "requests_running", "ranks"):
                assert f'octavo_worker_{name}{{worker="{worker.address}"}} 1.0' in metrics
            gateway.process.send_signal(signal.SIGTERM)
            last = [response async for response in responses][-1]
            assert last.usage.completion_token_count == 300
        await asyncio.wait_for(gateway.process.wait(), 10)
        assert gateway.process.returncode == 0


async def test_a_session_that_is_idle_hears_of_the_end(
    worker: FakeWorker, tokenizer: FakeTokenizer, tmp_path: Path
) -> None:
    async with running(worker, tokenizer, tmp_path) as gateway:
        await until_status(gateway.http_port, 200)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.grpc_port}") as channel:
            call = generation_pb2_grpc.GenerationServiceStub(channel).OpenSession()
            limits = pb.StoppingParameters(max_tokens=1)
            request = pb.GenerateRequest(prompt="hi", stopping=limits)
            await call.write(pb.OpenSessionRequest(key=1, open=request))
            answer = pb.OpenSessionResponse()
            while not answer.HasField("usage"):
                read = await call.read()
                assert isinstance(read, pb.OpenSessionResponse)
                answer = read
            gateway.process.send_signal(signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call.read()
            error = error_from_rpc(raised.value)
            assert (type(error), error.reason) == (UnavailableError, "DRAINED")
            assert error.retry_delay_ms
        await asyncio.wait_for(gateway.process.wait(), 10)
        assert gateway.process.returncode == 0


async def test_a_drain_that_takes_too_long_ends_the_rest(
    worker: FakeWorker, tokenizer: FakeTokenizer, tmp_path: Path
) -> None:
    async with running(worker, tokenizer, tmp_path, "--drain-limit-s", "0.1") as gateway:
        await until_status(gateway.http_port, 200)
        worker.stepping.clear()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.grpc_port}") as channel:
            stub = generation_pb2_grpc.GenerationServiceStub(channel)
            call = stub.Generate(pb.GenerateRequest(prompt="hi"))
            await until(lambda: len(worker.submits) == 1)
            gateway.process.send_signal(signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        await asyncio.wait_for(gateway.process.wait(), 10)
        assert gateway.process.returncode == 0


async def test_a_conversation_over_http(
    worker: FakeWorker, tokenizer: FakeTokenizer, tmp_path: Path
) -> None:
    worker.reply = say("héllo")
    async with running(worker, tokenizer, tmp_path) as gateway:
        await until_status(gateway.http_port, 200)
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
        status, text = await get(gateway.http_port, "/v1/chat/completions", body)
        choice = json.loads(text)["choices"][0]
        assert (status, choice["message"]["content"]) == (200, "héllo")
        assert choice["finish_reason"] == "stop"
        status, text = await get(
            gateway.http_port, "/v1/chat/completions", {**body, "stream": True}
        )
        assert status == 200 and text.rstrip().endswith("data: [DONE]")


async def test_http_health_follows_the_worker(
    worker: FakeWorker, tokenizer: FakeTokenizer, tmp_path: Path
) -> None:
    async with running(worker, tokenizer, tmp_path) as gateway:
        await until_status(gateway.http_port, 200)
        await worker.kill()
        await until_status(gateway.http_port, 503)
        await worker.start()
        await until_status(gateway.http_port, 200)


async def test_past_its_limits_it_answers_at_once_over_both_doors(
    worker: FakeWorker, tokenizer: FakeTokenizer, tmp_path: Path
) -> None:
    limits = ("--max-requests", "1", "--max-request-bytes", "100")
    async with running(worker, tokenizer, tmp_path, *limits) as gateway:
        await until_status(gateway.http_port, 200)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.grpc_port}") as channel:
            stub = generation_pb2_grpc.GenerationServiceStub(channel)
            call = stub.StreamGenerate(pb.GenerateRequest(prompt="hi"))
            await anext(aiter(call))
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stub.Generate(pb.GenerateRequest(prompt="hi"))
            error = error_from_rpc(raised.value)
            assert (type(error), error.reason) == (ResourceExhaustedError, "GATEWAY_FULL")
            assert error.retry_delay_ms == 1_000
            status, headers = await post(gateway.http_port, {"prompt": "hi"})
            assert (status, headers["retry-after"]) == (429, "1")
            call.cancel()
        await until_status(gateway.http_port, 200)
        status, headers = await post(gateway.http_port, {"prompt": "x" * 101})
        assert (status, headers["retry-after"]) == (400, None)
        status, headers = await post(gateway.http_port, {"prompt": ["a", "b"]})
        assert (status, headers["retry-after"]) == (400, None)


async def test_a_log_that_nobody_reads_costs_lines_only(
    worker: FakeWorker, tokenizer: FakeTokenizer, tmp_path: Path
) -> None:
    worker.reply = say("hi")
    read_end, write_end = os.pipe()
    os.close(read_end)
    async with running(worker, tokenizer, tmp_path, stderr=write_end) as gateway:
        os.close(write_end)
        await until_status(gateway.http_port, 200)
        status, _ = await get(gateway.http_port, "/v1/completions", {"prompt": "hi"})
        assert status == 200
        _, metrics = await get(gateway.metrics_port, "/metrics")
        (dropped,) = re.findall(r"^octavo_log_lines_dropped_total (\S+)$", metrics, re.MULTILINE)
        assert float(dropped) >= 3  # listening, ready, request
        gateway.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(gateway.process.wait(), 10)
        assert gateway.process.returncode == 0


async def test_a_port_in_use_is_one_line_and_status_2(
    worker: FakeWorker, tokenizer: FakeTokenizer
) -> None:
    for flag in ("--grpc-port", "--http-port", "--metrics-port"):
        ports = {"--grpc-port": "0", "--http-port": "0", "--metrics-port": "0"}
        ports[flag] = str(worker.port)
        process = await start(*(part for pair in ports.items() for part in pair))
        _, stderr = await asyncio.wait_for(process.communicate(), 20)
        lines = stderr.decode().strip().splitlines()
        assert process.returncode == 2, lines
        assert lines[-1].startswith("python -m gateway: ")
        assert "Traceback" not in stderr.decode()
