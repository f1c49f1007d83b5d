"""What an operator sees of the running product: metrics, admin calls, refusals, and its logs."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from octavo.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    tokenizer_pb2,
    tokenizer_pb2_grpc,
    worker_pb2,
    worker_pb2_grpc,
)
from tests.end_to_end.product import (
    REPOSITORY,
    SLOWLY,
    Product,
    Service,
    chat,
    greedy,
    reason_of,
    wait_until,
)

pytestmark = pytest.mark.slow

SERVICES = ["gateway", "tokenizer", "worker"]
_TYPE = re.compile(r"# TYPE (octavo_\w+) (\w+)")
_SAMPLE = re.compile(r"^(octavo_\w+?)(_bucket|_sum|_count)?(?:\{(.*)\})? \S+$", re.MULTILINE)
_ROW = re.compile(r"\| `(octavo_\w+)` \| (\w+) \|([\w, ]*)\|")

Families = dict[str, tuple[str, frozenset[str]]]


@pytest.fixture(scope="module")
def product(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """The product with logs as JSON, admin calls, and little room."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OCTAVO_LOG_FORMAT", "json")
        environment.setenv("OCTAVO_LOG_LEVEL", "debug")
        environment.setenv("OCTAVO_ADMIN_ADDRESS", "127.0.0.1:0")
        folder = tmp_path_factory.mktemp("operations")
        flags = ("--max-running=2", "--max-waiting=1")
        running = Product(checkpoints / "chat-l0", folder, SLOWLY, *flags)
        running.start()
    yield running
    running.stop()


def service_of(product: Product, name: str) -> Service:
    service: Service = getattr(product, name)
    return service


def num_open(product: Product) -> int:
    load = product.load()
    return load.running + load.waiting


@contextmanager
def endless(product: Product, *names: str) -> Iterator[None]:
    """Requests that stay open, and are cancelled at the end."""
    with product.generation() as stub:
        calls = []
        for number, name in enumerate(names, 1):
            request = greedy([5, 6, 7], 500)
            request.request_id = name
            calls.append(stub.StreamGenerate(request))
            wait_until(lambda: num_open(product) == number, "it is open")  # noqa: B023
        yield
        for call in calls:
            call.cancel()
    wait_until(lambda: product.load().kv_blocks_used == 0, "no block is used after")


def test_a_full_queue_is_429_and_resource_exhausted_with_a_delay(product: Product) -> None:
    body = {"prompt": "one more", "max_tokens": 1}
    request = urllib.request.Request(
        f"{product.http}/v1/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with endless(product, "runs", "runs-too", "waits"):
        with pytest.raises(urllib.error.HTTPError) as http:
            urllib.request.urlopen(request, timeout=5)
        with http.value as answer:
            assert answer.code == 429
            assert 100 <= int(answer.headers["retry-after-ms"]) <= 10_000
            assert 1 <= int(answer.headers["retry-after"]) <= 10
            assert json.load(answer)["error"]["type"] == "rate_limit_error"
        with product.generation() as stub, pytest.raises(grpc.RpcError) as rpc:
            stub.Generate(greedy([5], 1), timeout=5)
        code, reason, _ = reason_of(rpc.value)
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")


def scraped(product: Product, name: str) -> Families:
    """The type and the labels of each metric of a process."""
    port = service_of(product, name).ports["metrics_port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    types = dict(_TYPE.findall(text))
    families: Families = {}
    for sample, suffix, labels in _SAMPLE.findall(text):
        family = sample if sample in types else sample + suffix
        names = {label.partition("=")[0] for label in labels.split(",") if label} - {"le"}
        families[family] = (types[family], frozenset(names))
    return families


def documented(*titles: str) -> Families:
    """The rows of the tables under these titles of docs/operating.md."""
    page = (REPOSITORY / "docs" / "operating.md").read_text(encoding="utf-8")
    sections = {part.partition("\n")[0]: part for part in page.split("\n### ")[1:]}
    rows = [row for title in titles for row in _ROW.findall(sections[title])]
    return {
        name: (kind, frozenset(labels.replace(",", " ").split())) for name, kind, labels in rows
    }


def make_each_process_count_an_answer_and_a_refusal(product: Product) -> None:
    with product.generation() as stub:
        stub.Generate(chat("Hello", max_tokens=4))
        with pytest.raises(grpc.RpcError):
            stub.Generate(chat("", max_tokens=0, min_tokens=1))
    with grpc.insecure_channel(f"127.0.0.1:{product.tokenizer.ports['port']}") as channel:
        tokenizer = tokenizer_pb2_grpc.TokenizerServiceStub(channel)
        unknown = tokenizer_pb2.TokenIdList(ids=[10**6])
        with pytest.raises(grpc.RpcError):
            tokenizer.Decode(tokenizer_pb2.DecodeRequest(sequences=[unknown]))
    with grpc.insecure_channel(f"127.0.0.1:{product.worker.ports['port']}") as channel:
        attach = worker_pb2.RunRequest(attach=worker_pb2.Attach(gateway_id="test"))
        empty = worker_pb2.RunRequest(submit=worker_pb2.Submit(key=1))
        answers = worker_pb2_grpc.WorkerServiceStub(channel).Run(iter([attach, empty]))
        assert any(answer.items for answer in answers)


def test_the_metrics_are_those_that_are_documented(product: Product) -> None:
    make_each_process_count_an_answer_and_a_refusal(product)
    wait_until(lambda: "octavo_worker_step_seconds" in scraped(product, "worker"), "a heartbeat")
    for name in SERVICES:
        assert scraped(product, name) == documented("Every process", name.capitalize())


@contextmanager
def admin_of(product: Product, name: str) -> Iterator[admin_pb2_grpc.AdminServiceStub]:
    port = service_of(product, name).ports["admin_port"]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield admin_pb2_grpc.AdminServiceStub(channel)


def test_the_admin_calls_see_what_is_open_in_each_process(product: Product) -> None:
    with endless(product, "watched"):
        for name in SERVICES:
            with admin_of(product, name) as stub:
                status = admin_pb2.GetStatusResponse()
                while not status.open_request_count and name != "tokenizer":
                    status = stub.GetStatus(admin_pb2.GetStatusRequest())
                status = stub.GetStatus(admin_pb2.GetStatusRequest())
            assert (status.service, status.state) == (name, admin_pb2.PROCESS_STATE_SERVING)
            assert status.pid == service_of(product, name).pid
            ids = [request.request_id for request in status.open_requests]
            assert ids == ([] if name == "tokenizer" else ["watched"])


@pytest.mark.parametrize("name", ["gateway", "worker"])
def test_an_abort_ends_a_stream_as_aborted(product: Product, name: str) -> None:
    request = greedy([5, 6, 7], 500)
    request.request_id = f"aborted-in-{name}"
    with product.generation() as stub, admin_of(product, name) as admin:
        call = stub.StreamGenerate(request)
        next(call)
        admin.Abort(admin_pb2.AbortRequest(request_id=request.request_id))
        with pytest.raises(grpc.RpcError) as failed:
            list(call)
        assert failed.value.code() is grpc.StatusCode.ABORTED
        with pytest.raises(grpc.RpcError) as missing:
            admin.Abort(admin_pb2.AbortRequest(request_id=request.request_id[:-1]))
        assert missing.value.code() is grpc.StatusCode.NOT_FOUND
    wait_until(lambda: product.load().kv_blocks_used == 0, "no block is used after")


def lines_of(service: Service) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    assert all(isinstance(line, dict) for line in lines)
    return lines


def test_a_drain_by_call_ends_each_process_and_their_logs_tell_of_each_request(
    product: Product,
) -> None:
    asked = chat("Hello", max_tokens=4)
    asked.request_id = "told"
    with product.generation() as stub:
        stub.Generate(asked)
        call = stub.StreamGenerate(chat("Hello"))
        next(call)
        call.cancel()
    for name in SERVICES:
        with admin_of(product, name) as admin:
            admin.Drain(admin_pb2.DrainRequest())
        process = service_of(product, name).process
        assert process is not None
        assert process.wait(20) == 0
    logs = {name: lines_of(service_of(product, name)) for name in SERVICES}
    for line in (line for lines in logs.values() for line in lines):
        assert {"timestamp", "level", "event", "service"} <= line.keys()
        assert line["level"] in ("debug", "info", "warning"), line
    told = [line for lines in logs.values() for line in lines if line.get("request_id") == "told"]
    assert {line["service"] for line in told} == {"gateway", "tokenizer", "worker", "rank 0"}
    requests = [line for line in logs["gateway"] if line["event"] == "request"]
    assert all(line["request_id"] for line in requests)
    assert max(Counter(line["request_id"] for line in requests).values()) == 1
    (line,) = (line for line in requests if line["request_id"] == "told")
    assert (line["method"], line["outcome"], line["finish"]) == ("Generate", "ok", ["LENGTH"])
    assert line["completion_tokens"] == 4
    assert {"ok", "cancelled", "refused"} <= {line["outcome"] for line in requests}
