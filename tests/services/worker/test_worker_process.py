"""A real worker group on a tiny checkpoint, over gRPC: one process tree per test."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from octavo.rpc.status import error_from_rpc
from octavo.v1 import worker_pb2
from services.worker.front.submit_check import ACCEPTED_FIELDS
from tests.services.worker.worker_process import (
    CHECKPOINT,
    RunClient,
    WorkerProcess,
    running_worker,
)

pytestmark = pytest.mark.slow

FOREVER = 400  # tokens: seconds of work on this checkpoint


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[WorkerProcess]:
    async with running_worker(tmp_path, "--kernels=reference") as process:  # slow enough to act
        yield process


async def is_serving(worker: WorkerProcess) -> bool:
    stub: Any = health_pb2_grpc.HealthStub(worker.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service="octavo.v1.WorkerService"))
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def test_starting_is_visible_before_the_load_and_then_it_generates(
    worker: WorkerProcess,
) -> None:
    assert (await worker.health()).state == worker_pb2.WORKER_STATE_STARTING
    assert not await is_serving(worker)
    early = await worker.stub.GetWorker(worker_pb2.GetWorkerRequest())
    assert (early.model, early.instance_id, early.ranks) == ("fmo-l0", "", 1)

    await worker.until_serving()
    assert await is_serving(worker)
    described = await worker.stub.GetWorker(worker_pb2.GetWorkerRequest())
    assert described.worker_id == early.worker_id
    assert described.vocabulary_size == 320
    assert described.max_context_tokens == 512
    assert list(described.eos_token_ids) == [1]
    assert list(described.capabilities.fields) == list(ACCEPTED_FIELDS)
    assert described.numerics_fingerprint
    assert described.capacity.kv_blocks > 0

    client = await RunClient(worker).attach()
    await client.submit(5, max_tokens=6, request_id="r")
    ids, end = await client.until_end(5)
    assert len(ids) == 6
    assert end.finish.reason == worker_pb2.RUN_FINISH_REASON_LENGTH
    assert end.HasField("timings")
    assert client.last_load.kv_blocks_used == 0
    await client.submit(5, max_tokens=6)
    assert (await client.until_end(5))[0] == ids

    url = f"http://127.0.0.1:{worker.metrics_port}/metrics"
    text = (await asyncio.to_thread(urllib.request.urlopen, url)).read().decode()
    assert f"octavo_worker_kv_blocks_total {described.capacity.kv_blocks}.0" in text
    assert "octavo_worker_steps_total 12.0" in text


async def test_golden_ids_in_float32(tmp_path: Path) -> None:
    cases = json.loads((CHECKPOINT / "golden.json").read_text())["cases"]
    async with running_worker(tmp_path, "--dtype", "float32") as worker:
        await worker.until_serving()
        client = await RunClient(worker).attach()
        wanted = {}
        for key, case in enumerate(case for case in cases if case["mode"] == "weight_only"):
            wanted[key] = case["greedy"]
            prompt = case["prompt"]
            await client.submit(key, prompt_token_ids=prompt, max_tokens=len(case["greedy"]))
        got: dict[int, list[int]] = {key: [] for key in wanted}
        while got != wanted:
            for item in (await client.read()).items:
                got[item.key] += item.token_ids
                assert got[item.key] == wanted[item.key][: len(got[item.key])]
        assert wanted


async def test_cancels_limits_and_refusals_each_concern_one_request(
    worker: WorkerProcess,
) -> None:
    await worker.until_serving()
    client = await RunClient(worker).attach()
    await client.submit(1, max_tokens=FOREVER)
    await client.first_item(1)
    assert client.last_load.kv_blocks_used > 0

    await client.submit(1, max_tokens=1)
    while not (item := await client.first_item(1)).HasField("error"):
        pass
    assert item.error.reason == "KEY_IN_USE"
    await client.cancel(1, 99)
    _, end = await client.until_end(1)
    assert end.finish.reason == worker_pb2.RUN_FINISH_REASON_CANCELLED

    await client.submit(2, sampling=worker_pb2.ResolvedSampling(min_p=1.5))
    _, end = await client.until_end(2)
    assert end.error.metadata["field"] == "sampling.min_p"

    await client.submit(3, prompt_token_ids=[320])
    _, end = await client.until_end(3)
    assert (end.error.code, end.error.metadata["field"]) == (3, "prompt_token_ids")

    sampling = worker_pb2.ResolvedSampling(n=2, temperature=1)
    await client.submit(7, sampling=sampling, max_tokens=FOREVER)
    await client.first_item(7)
    await client.cancel_output(7, 0)
    finished: list[worker_pb2.RunItem] = []
    while not finished:
        finished = [item for item in (await client.read()).items if item.HasField("finish")]
    (item,) = finished
    assert (item.output_index, item.HasField("timings")) == (0, False)
    assert item.finish.reason == worker_pb2.RUN_FINISH_REASON_CANCELLED
    items = (await client.read()).items
    assert [item.output_index for item in items if item.key == 7] == [1]
    await client.cancel(7)
    _, end = await client.until_end(7)
    assert end.output_index == 1
    assert client.last_load.kv_blocks_used == 0

    await client.submit(4, time_limit_ms=1, max_tokens=FOREVER)
    _, end = await client.until_end(4)
    assert end.finish.reason == worker_pb2.RUN_FINISH_REASON_TIME_LIMIT
    await client.submit(5, deadline_ms=1, max_tokens=FOREVER)
    _, end = await client.until_end(5)
    assert end.error.code == 4
    assert client.last_load.kv_blocks_used == 0


async def test_outputs_and_log_probabilities_over_the_wire(worker: WorkerProcess) -> None:
    await worker.until_serving()
    described = await worker.stub.GetWorker(worker_pb2.GetWorkerRequest())
    capabilities = described.capabilities
    assert (capabilities.max_outputs, capabilities.max_top_logprobs) == (32, 20)
    client = await RunClient(worker).attach()
    await client.submit(
        1,
        sampling=worker_pb2.ResolvedSampling(temperature=1, seed=3, n=3),
        forced_token_ids=[9, 8],
        max_tokens=5,
        logprobs=worker_pb2.LogprobOptions(generated=True, prompt=True, top=2),
    )
    items: list[worker_pb2.RunItem] = []
    while not items or not items[-1].HasField("timings"):
        items += (await client.read()).items
    assert [len(one.top_token_ids) for one in items[0].start.prompt_logprobs] == [2, 2, 2]
    for index in range(3):
        mine = [item for item in items if item.output_index == index]
        ids = [token_id for item in mine for token_id in item.token_ids]
        logprobs = [one.logprob for item in mine for one in item.logprobs]
        assert (ids[:2], len(ids), len(logprobs)) == ([9, 8], 5, 5)
        assert max(logprobs) < 0
        ends = [item.finish.reason for item in mine if item.HasField("finish")]
        assert ends == [worker_pb2.RUN_FINISH_REASON_LENGTH]
    await client.submit(2, sampling=worker_pb2.ResolvedSampling(n=33))
    _, end = await client.until_end(2)
    assert end.error.metadata["limit"] == "from 1 to 32"
    assert client.last_load.kv_blocks_used == 0


async def test_a_stream_must_begin_with_attach_and_cannot_be_resumed_yet(
    worker: WorkerProcess,
) -> None:
    await worker.until_serving()
    first = RunClient(worker)
    await first.submit(1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await first.call.read()
    assert error_from_rpc(caught.value).reason == "ATTACH_REQUIRED"
    again = RunClient(worker)
    await again.send(attach=worker_pb2.Attach(gateway_id="g", instance_id="i", last_sequence=3))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await again.call.read()
    assert error_from_rpc(caught.value).reason == "REATTACH_UNSUPPORTED"


async def test_a_dropped_stream_cancels_its_requests_within_a_second(
    worker: WorkerProcess,
) -> None:
    await worker.until_serving()
    watcher = await RunClient(worker).attach()
    client = await RunClient(worker).attach()
    for key in range(16):
        await client.submit(key, max_tokens=FOREVER)
    await client.first_item(15)
    client.call.cancel()
    dropped_at = time.monotonic()
    while (await watcher.read()).load.kv_blocks_used or not watcher.last_load.step:
        pass
    assert time.monotonic() - dropped_at < 3  # the load is sent once a second
    assert watcher.last_load.step < FOREVER / 2  # else the requests had ended by themselves


async def test_a_killed_rank_ends_requests_and_the_group_comes_back(
    worker: WorkerProcess,
) -> None:
    health = await worker.until_serving()
    client = await RunClient(worker).attach()
    for key in range(8):
        await client.submit(key, max_tokens=FOREVER)
    first_instance = (await client.read()).instance_id
    os.kill(health.ranks[0].pid, signal.SIGKILL)
    killed_at = time.monotonic()
    lost: dict[int, worker_pb2.RunError] = {}
    while len(lost) < 8:
        for item in (await client.read()).items:
            if item.HasField("error"):
                lost[item.key] = item.error
    assert time.monotonic() - killed_at < 1
    assert {error.reason for error in lost.values()} == {"WORKER_LOST"}
    assert {error.code for error in lost.values()} == {14}
    assert lost[0].metadata["rank"] == "0"
    assert "SIGKILL" in lost[0].metadata["cause"]
    assert not await is_serving(worker)

    back = await worker.until_serving(generation=2)
    assert "SIGKILL" in back.ranks[0].last_failure
    await client.submit(1, max_tokens=2)
    ids, end = await client.until_end(1)
    assert len(ids) == 2
    assert end.HasField("finish")
    instance = (await worker.stub.GetWorker(worker_pb2.GetWorkerRequest())).instance_id
    assert instance not in ("", first_instance)


async def test_kill_9_of_the_front_leaves_nothing(worker: WorkerProcess) -> None:
    await worker.until_serving()
    family = worker.family()
    assert len(family) == 3  # front, launcher, rank
    worker.process.kill()
    _, alive = psutil.wait_procs(family, timeout=5)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    assert list(worker.temporary.iterdir()) == []


async def test_sigterm_finishes_what_is_open_and_leaves_nothing(worker: WorkerProcess) -> None:
    await worker.until_serving()
    family = worker.family()
    client = await RunClient(worker).attach()
    await client.submit(1, max_tokens=200)
    await client.first_item(1)
    worker.process.terminate()
    # Closing its side too, the gateway hears the request out.
    await client.call.done_writing()
    ids, end = await client.until_end(1)
    assert end.finish.reason == worker_pb2.RUN_FINISH_REASON_LENGTH
    assert len(ids) > 100
    assert await asyncio.to_thread(worker.process.wait, 20) == 0
    assert not any(process.is_running() for process in family)
    assert list(worker.temporary.iterdir()) == []
    assert "Traceback" not in worker.log.read_text()


async def test_past_the_drain_limit_requests_end_with_a_retryable_reason(tmp_path: Path) -> None:
    async with running_worker(tmp_path, "--drain-limit-s", "0") as worker:
        await worker.until_serving()
        client = await RunClient(worker).attach()
        await client.submit(1, max_tokens=FOREVER)
        await client.first_item(1)
        worker.process.terminate()
        _, end = await client.until_end(1)
        assert (end.error.code, end.error.reason) == (14, "DRAINING")
        assert end.error.retry_delay_ms > 0
        assert await asyncio.to_thread(worker.process.wait, 20) == 0


async def test_a_second_signal_ends_the_front_at_once(worker: WorkerProcess) -> None:
    await worker.until_serving()
    family = worker.family()
    client = await RunClient(worker).attach()
    await client.submit(1, max_tokens=FOREVER)
    await client.first_item(1)
    worker.process.terminate()
    while (await worker.health()).state != worker_pb2.WORKER_STATE_DRAINING:
        await asyncio.sleep(0.01)
    worker.process.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(worker.process.wait, 2) == 1
    _, alive = psutil.wait_procs(family, timeout=5)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def start_wrong(*flags: str) -> str:
    """The one line that a worker with these flags says before it ends with status 2."""
    done = subprocess.run(
        [sys.executable, "-m", "services.worker", "--metrics-port", "0", *flags],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert all("[info " in line for line in lines[:-1]), lines  # what started before
    return lines[-1]


def test_what_cannot_work_is_said_before_a_rank_starts(tmp_path: Path) -> None:
    model = ["--model", str(CHECKPOINT)]
    assert "nowhere is not a folder" in start_wrong("--model", str(tmp_path / "nowhere"))
    assert "holds no config.json" in start_wrong("--model", str(tmp_path))
    huge = start_wrong(*model, "--kv-cache-memory-bytes", str(2**50))
    assert "1048576.00 GiB for the KV cache" in huge
    (tmp_path / "tokenizer.json").touch()
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text('{"model_type": "unheard_of"}')
    assert "model_type is 'unheard_of'" in start_wrong("--model", str(tmp_path))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert port in start_wrong(*model, "--port", port)
        assert port in start_wrong(*model, "--port", "0", "--metrics-port", port)


def test_what_only_a_rank_can_tell_ends_the_group_too(tmp_path: Path) -> None:
    for path in CHECKPOINT.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["Unheard"]}))
    line = start_wrong("--model", str(tmp_path), "--port", "0")
    assert "rank 0: " in line
    assert "Unheard" in line


def test_a_weight_that_cannot_be_right_ends_the_group_before_it_serves(tmp_path: Path) -> None:
    for path in CHECKPOINT.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    name, weights = "model.layers.1.mlp.up_proj.weight", tmp_path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    header_bytes = int.from_bytes(content[:8], "little")
    place = json.loads(content[8 : 8 + header_bytes])[name]["data_offsets"][1]
    content[8 + header_bytes + place - 1] = 0xFF
    weights.write_bytes(content)
    line = start_wrong("--model", str(tmp_path), "--port", "0")
    assert f"rank 0: model.safetensors: tensor '{name}' holds a NaN." in line


def test_cuda_without_a_gpu_is_said(tmp_path: Path) -> None:
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    flags = ["--model", str(CHECKPOINT), "--device", "cuda", "--port", "0", "--metrics-port", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "services.worker", *flags],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=hidden,
    )
    assert done.returncode == 2
    assert "finds no GPU" in done.stderr.splitlines()[-1]
