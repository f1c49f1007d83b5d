"""SIGTERM: what is open finishes, what is new is refused at once; a second one ends the process."""

from __future__ import annotations

import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from octavo.v1 import generation_pb2 as pb
from tests.end_to_end.product import SLOWLY, Product, Service, reason_of, wait_until

pytestmark = pytest.mark.slow

NUM_STREAMS = 16
NUM_TOKENS = 300  # seconds of work for all of them


@pytest.fixture(scope="module")
def product(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A product that runs half of the streams at a time: the others wait, and are open too."""
    folder = tmp_path_factory.mktemp("drain")
    running = Product(checkpoints / "chat-l0", folder, SLOWLY, f"--max-running={NUM_STREAMS // 2}")
    running.start()
    yield running
    assert set(running.stop().values()) == {0}


class OpenStream:
    """One client that reads a stream to its end, over gRPC or HTTP."""

    def __init__(self, product: Product, number: int) -> None:
        self.num_tokens = 0
        self.ended_with: object = None
        self._prompt = f"Stream {number}"
        read = self._read_grpc if number % 2 else self._read_http
        self.thread = threading.Thread(target=self._noting, args=(read, product), daemon=True)
        self.thread.start()

    def _noting(self, read: Any, product: Product) -> None:
        try:
            read(product)
        except Exception as error:  # noqa: BLE001 - the test shows it
            self.ended_with = error

    def _read_grpc(self, product: Product) -> None:
        request = pb.GenerateRequest(
            prompt=self._prompt,
            sampling=pb.SamplingParameters(temperature=0),
            stopping=pb.StoppingParameters(max_tokens=NUM_TOKENS, ignore_eos=True),
        )
        with product.generation() as stub:
            for event in stub.StreamGenerate(request):
                self.ended_with = event.WhichOneof("event")
        self.num_tokens = event.usage.completion_token_count

    def _read_http(self, product: Product) -> None:
        body = {
            "prompt": self._prompt,
            "temperature": 0,
            "max_tokens": NUM_TOKENS,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        with post(product, body) as answer:
            data = [line[6:].decode().strip() for line in answer if line.startswith(b"data: ")]
        self.num_tokens = json.loads(data[-2])["usage"]["completion_tokens"]
        self.ended_with = data[-1]


def post(product: Product, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"{product.http}/v1/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    return urllib.request.urlopen(request, timeout=60)


def serving(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def assert_refused_at_once(product: Product, code: str) -> None:
    """Over both doors, as unavailable; over HTTP with this code."""
    began_at = time.monotonic()
    with pytest.raises(urllib.error.HTTPError) as http:
        post(product, {"prompt": "new", "max_tokens": 1})
    with http.value as answer:
        assert answer.code == 503
        assert json.load(answer)["error"]["code"] == code
        assert int(answer.headers["retry-after"]) >= 1
    with product.generation() as stub, pytest.raises(grpc.RpcError) as rpc:
        stub.Generate(pb.GenerateRequest(prompt="new"), timeout=10)
    assert reason_of(rpc.value)[0] is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - began_at < 2


def restart(product: Product, service: Service) -> None:
    """Brings a service back where it was."""
    service.start(**service.ports)
    wait_until(lambda: product.health() == 200, "healthy again", 60)


@pytest.mark.parametrize("name", ["gateway", "tokenizer"])
def test_a_second_signal_ends_the_process_at_once(product: Product, name: str) -> None:
    service: Service = getattr(product, name)
    with product.generation() as stub:
        limits = pb.StoppingParameters(max_tokens=NUM_TOKENS, ignore_eos=True)
        call = stub.StreamGenerate(pb.GenerateRequest(prompt="open", stopping=limits))
        next(call)
        assert service.process is not None
        num_drains = service.log.read_text().count("draining")
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: service.log.read_text().count("draining") > num_drains, "it drains")
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(1) != 0
    restart(product, service)


@pytest.mark.parametrize("name", ["gateway", "tokenizer", "worker"])
def test_open_streams_finish_and_new_ones_are_refused(product: Product, name: str) -> None:
    service: Service = getattr(product, name)
    streams = [OpenStream(product, number) for number in range(NUM_STREAMS)]
    wait_until(lambda: product.load().running == NUM_STREAMS // 2, "half of the streams run")
    wait_until(lambda: product.load().waiting == NUM_STREAMS // 2, "the others wait")
    assert service.process is not None
    service.process.send_signal(signal.SIGTERM)
    wait_until(lambda: product.health() == 503, "/health says 503", 5)
    wait_until(lambda: not serving(product.grpc), "grpc health says NOT_SERVING", 5)
    code = "server_draining" if name == "gateway" else "server_overloaded"
    assert_refused_at_once(product, code)
    assert any(stream.thread.is_alive() for stream in streams)
    for stream in streams:
        stream.thread.join(30)
    assert {stream.ended_with for stream in streams} == {"usage", "[DONE]"}
    assert [stream.num_tokens for stream in streams] == [NUM_TOKENS] * NUM_STREAMS
    assert service.process.wait(10) == 0
    assert "Traceback" not in service.log.read_text()
    if service is not product.worker:  # the last
        restart(product, service)
