"""The life of a group, with ranks that import no torch and misbehave when asked."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from octavo.errors import AbortedError, FailedPreconditionError
from octavo.v1 import worker_pb2
from services.worker.front import group as group_file
from services.worker.front.admin import GroupAdmin
from services.worker.front.admission import Admission
from services.worker.front.attachment import Attachment
from services.worker.front.generation import GenerationConfig
from services.worker.front.group import NOT_SERVING, SERVING, STARTING, Group, GroupFailedError
from services.worker.front.health import describe_health
from services.worker.front.process import launch_command
from services.worker.front.request_watch import RequestWatch
from services.worker.link.rank_config import RankConfig
from tests.services.worker.front.fake_rank import ECHO, EXIT, HANG, KEEP, RAISE, STOP_SELF
from tests.services.worker.front.simulated_worker import LIMITS

HEARTBEAT_LIMIT_S = 1.0
STEP_LIMIT_MS = 500
FAKE_LAUNCH = "tests.services.worker.front.fake_launch"


class Watched:
    """A group that runs, and what was said about it on grpc.health.v1."""

    def __init__(self, group: Group, task: asyncio.Task[None], serving: list[bool]) -> None:
        self.group = group
        self.task = task
        self.serving = serving
        self.attachment = group.attach(worker_pb2.Attach(gateway_id="g"))

    async def until(self, is_true: Callable[[], bool], seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while not is_true():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.005)

    async def until_serving(self, generation: int = 1) -> None:
        group = self.group
        await self.until(lambda: group.state == SERVING and group.num_generations == generation)

    def submit(self, key: int, *ids: int, to: Attachment | None = None) -> None:
        submit = worker_pb2.Submit(key=key, prompt_token_ids=ids)
        self.group.submit(to or self.attachment, submit)

    async def next_item(self) -> tuple[worker_pb2.RunItem, worker_pb2.Load]:
        while True:
            response = await self.attachment.next_response(lambda: self.group.load)
            assert response is not None
            if response.items:
                (item,) = response.items
                return item, response.load

    def pids(self) -> list[int]:
        assert self.group.generation is not None
        return [record.pid for record in self.group.generation.ranks.values()]


def make_config(model: str, num_ranks: int, command: Sequence[str] | None) -> GenerationConfig:
    def rank_config(path: str, generation: int) -> RankConfig:
        return RankConfig(
            socket_path=path,
            generation=generation,
            num_ranks=num_ranks,
            model=model,
            device="cpu",
            dtype="auto",
            kernels="auto",
            fp8_weights=False,
            fp8_activations=False,
            fp8_kv_cache=False,
            threads=1,
            block_tokens=16,
            kv_cache_memory_bytes=1,
            max_step_tokens=1,
            max_running=1,
            max_waiting=1,
            max_waiting_prompt_tokens=1,
            max_context=None,
            step_limit_ms=STEP_LIMIT_MS,
            heartbeat_ms=50,
            log_format="console",
            log_level="info",
        )

    return GenerationConfig(
        command=command or [sys.executable, "-m", FAKE_LAUNCH, str(num_ranks)],
        num_ranks=num_ranks,
        make_rank_config=rank_config,
        heartbeat_limit_s=HEARTBEAT_LIMIT_S,
        start_limit_s=60,
    )


@asynccontextmanager
async def running_group(
    model: str = "",
    *,
    num_ranks: int = 1,
    max_restarts: int = 3,
    command: Sequence[str] | None = None,
) -> AsyncIterator[Watched]:
    serving: list[bool] = []

    async def note(is_serving: bool) -> None:
        serving.append(is_serving)

    config = make_config(model, num_ranks, command)
    watch = RequestWatch(CollectorRegistry())
    group = Group(
        config,
        max_restarts=max_restarts,
        on_serving=note,
        watch=watch,
        admission=Admission(LIMITS),
        max_outputs=8,
    )
    task = asyncio.create_task(group.run())
    try:
        yield Watched(group, task, serving)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, GroupFailedError):
            await task


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def is_gone(pid: int) -> bool:
    """Whether the process has ended, collected by its parent or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def contents(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_starting_can_be_seen_and_requests_are_refused_until_ranks_have_loaded(
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    async with running_group(f"wait:{gate}") as watched:
        await watched.until(lambda: bool(watched.group.generation and watched.pids()))
        health = describe_health(watched.group)
        assert health.state == STARTING
        assert health.ranks[0].WhichOneof("activity") == "loading"
        watched.submit(1, ECHO)
        item, _ = await watched.next_item()
        assert item.error.reason == "WORKER_NOT_SERVING"
        assert item.error.retry_delay_ms
        gate.touch()
        await watched.until_serving()
        assert watched.serving == [True]
        assert describe_health(watched.group).ranks[0].WhichOneof("activity") == "idle"


async def test_a_request_goes_through_and_a_cancel_frees_its_block() -> None:
    async with running_group() as watched:
        await watched.until_serving()
        watched.submit(7, ECHO, 5, 6)
        item, _ = await watched.next_item()
        assert (item.key, list(item.token_ids)) == (7, [ECHO, 5, 6])
        assert item.finish.reason == worker_pb2.RUN_FINISH_REASON_LENGTH
        watched.submit(8, KEEP)
        _, load = await watched.next_item()
        assert load.kv_blocks_used == 1
        watched.group.cancel(watched.attachment, [8, 9])
        item, load = await watched.next_item()
        assert item.finish.reason == worker_pb2.RUN_FINISH_REASON_CANCELLED
        assert load.kv_blocks_used == 0


async def test_an_operator_aborts_by_the_whole_id() -> None:
    async with running_group() as watched:
        await watched.until_serving()
        admin = GroupAdmin(watched.group)
        for key in (1, 2):
            submit = worker_pb2.Submit(
                key=key, prompt_token_ids=[KEEP], request_id=f"req-{key}" + "0" * (key - 1)
            )
            watched.group.submit(watched.attachment, submit)
            await watched.next_item()
        assert [request.request_id for request in admin.open_requests()] == ["req-1", "req-20"]
        assert (admin.num_open, admin.is_serving, admin.is_draining) == (2, True, False)
        error = AbortedError("The operator said so.")
        assert admin.abort("req-2", error) == 0
        assert admin.abort("req-20", error) == 1
        item, _ = await watched.next_item()
        assert (item.key, item.error.code) == (2, error.code)
        await watched.until(lambda: watched.group.load.kv_blocks_used == 1)


async def test_a_gateway_that_goes_away_takes_its_requests_with_it() -> None:
    async with running_group() as watched:
        await watched.until_serving()
        other = watched.group.attach(worker_pb2.Attach(gateway_id="other"))
        watched.submit(1, KEEP, to=other)
        await watched.until(lambda: watched.group.load.kv_blocks_used == 1)
        watched.group.detach(other)
        await watched.until(lambda: watched.group.load.kv_blocks_used == 0)


async def test_attaching_again_is_refused_honestly() -> None:
    async with running_group() as watched:
        for attach in (worker_pb2.Attach(instance_id="x"), worker_pb2.Attach(last_sequence=0)):
            with pytest.raises(FailedPreconditionError) as caught:
                watched.group.attach(attach)
            assert caught.value.reason == "REATTACH_UNSUPPORTED"


@pytest.mark.parametrize(
    ("act", "cause", "within_s"),
    [
        (RAISE, "it raised ZeroDivisionError", 1.0),
        (EXIT, "its process ended with status 7", 1.0),
        (HANG, f"(limit {STEP_LIMIT_MS} ms)", STEP_LIMIT_MS / 1000 + 1.5),
        (STOP_SELF, "it was silent for", HEARTBEAT_LIMIT_S + 1.5),
    ],
    ids=["raise", "exit", "hang", "stop"],
)
@pytest.mark.slow
async def test_a_lost_rank_ends_requests_with_its_cause_and_the_group_comes_back(
    act: int, cause: str, within_s: float
) -> None:
    async with running_group(num_ranks=2) as watched:
        await watched.until_serving()
        first_instance, first_pids = watched.group.instance_id, watched.pids()
        watched.submit(1, KEEP)
        assert (await watched.next_item())[0].key == 1
        asked_at = time.monotonic()
        watched.submit(2, act)
        responses: list[worker_pb2.RunItem] = []
        async with asyncio.timeout(10):
            while len({item.key for item in responses if item.HasField("error")}) < 2:
                response = await watched.attachment.next_response(lambda: watched.group.load)
                assert response is not None
                responses += response.items
        assert time.monotonic() - asked_at < within_s
        errors = [item.error for item in responses if item.HasField("error")]
        assert {error.reason for error in errors} == {"WORKER_LOST"}
        assert errors[0].metadata["rank"] == "0"
        assert cause in errors[0].metadata["cause"]
        await watched.until_serving(generation=2)
        assert watched.group.instance_id != first_instance
        assert watched.serving == [True, False, True]
        assert cause in describe_health(watched.group).ranks[0].last_failure
        assert all(is_gone(pid) for pid in first_pids)
        watched.submit(3, ECHO)
        assert (await watched.next_item())[0].key == 3


async def test_kill_9_of_another_rank_blames_that_rank_and_kills_the_rest() -> None:
    async with running_group(num_ranks=3) as watched:
        await watched.until_serving()
        assert watched.group.generation is not None
        ranks = dict(watched.group.generation.ranks)
        watched.submit(1, KEEP)
        await watched.next_item()
        os.kill(ranks[1].pid, signal.SIGSTOP)
        os.kill(ranks[2].pid, signal.SIGKILL)
        killed_at = time.monotonic()
        item, _ = await watched.next_item()
        assert time.monotonic() - killed_at < 1
        assert item.error.metadata["rank"] == "2"
        assert "SIGKILL" in item.error.metadata["cause"]
        await watched.until(lambda: all(is_gone(record.pid) for record in ranks.values()), 5)
        await watched.until_serving(generation=2)


async def test_a_rank_that_takes_nothing_is_lost_before_much_waits_for_it() -> None:
    async with running_group() as watched:
        await watched.until_serving()
        (pid,) = watched.pids()
        os.kill(pid, signal.SIGSTOP)
        ids = [319] * 2**21  # 4 MiB
        for key in range(20):
            watched.submit(key, *ids)
        response = await watched.attachment.next_response(lambda: watched.group.load)
        assert response is not None
        (cause,) = {item.error.metadata["cause"] for item in response.items}
        assert "bytes unread" in cause
        await watched.until_serving(generation=2)


async def test_a_dead_launcher_is_a_lost_generation() -> None:
    async with running_group() as watched:
        await watched.until_serving()
        generation = watched.group.generation
        assert generation is not None
        assert generation._launcher is not None
        generation._launcher.kill()
        await watched.until_serving(generation=2)


async def test_a_checkpoint_that_cannot_load_ends_the_group_without_another_try() -> None:
    async with running_group("permanent") as watched:
        with pytest.raises(
            GroupFailedError, match=r"rank 0: model\.safetensors: tensor x"
        ) as caught:
            await asyncio.wait_for(watched.task, 20)
        assert caught.value.permanent
        assert watched.group.num_generations == 1


async def test_other_failures_are_tried_again_a_bounded_number_of_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_file, "FIRST_BACKOFF_S", 0.01)
    async with running_group("fail", max_restarts=2) as watched:
        with pytest.raises(GroupFailedError, match="it raised MemoryError") as caught:
            await asyncio.wait_for(watched.task, 30)
        assert not caught.value.permanent
        assert watched.group.num_generations == 3
        assert watched.group.state == NOT_SERVING


@pytest.mark.slow
async def test_ranks_that_served_are_started_again_however_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_file, "FIRST_BACKOFF_S", 0.01)
    async with running_group(max_restarts=0) as watched:
        for generation in range(1, 4):
            await watched.until_serving(generation)
            os.kill(watched.pids()[0], signal.SIGKILL)
            await watched.until(lambda: watched.group.state != SERVING)


async def test_a_launcher_that_ends_before_its_ranks_came_is_named() -> None:
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    async with running_group(max_restarts=0, command=command) as watched:
        with pytest.raises(GroupFailedError, match="the launcher: it ended with status 3"):
            await asyncio.wait_for(watched.task, 20)


def test_backoff_grows_and_is_bounded() -> None:
    waits = [group_file._backoff_s(number) for number in range(2, 12)]
    assert waits == sorted(waits)
    assert waits[0] == group_file.FIRST_BACKOFF_S
    assert waits[-1] == group_file.MAX_BACKOFF_S


async def test_draining_lets_open_requests_finish_and_refuses_new_ones() -> None:
    async with running_group() as watched:
        await watched.until_serving()
        watched.submit(1, KEEP)
        await watched.next_item()
        draining = asyncio.create_task(watched.group.drain(20))
        await watched.until(lambda: watched.group.state == worker_pb2.WORKER_STATE_DRAINING)
        watched.submit(2, ECHO)
        item, _ = await watched.next_item()
        assert (item.key, item.error.reason) == (2, "DRAINING")
        watched.group.cancel(watched.attachment, [1])
        await draining
        item, _ = await watched.next_item()
        assert item.finish.reason == worker_pb2.RUN_FINISH_REASON_CANCELLED
        assert watched.serving[-1] is False


async def test_what_is_open_past_the_drain_limit_ends_with_a_retryable_reason() -> None:
    async with running_group() as watched:
        await watched.until_serving()
        watched.submit(1, KEEP)
        await watched.next_item()
        await watched.group.drain(0.05)
        item, _ = await watched.next_item()
        assert item.error.reason == "DRAINING"
        assert item.error.retry_delay_ms


async def test_an_orderly_stop_leaves_nothing(temporary_folder: Path) -> None:
    async with running_group(num_ranks=2) as watched:
        await watched.until_serving()
        pids = watched.pids()
    assert all(is_gone(pid) for pid in pids)
    assert contents(temporary_folder) == []


async def test_a_stop_while_ranks_load_leaves_nothing(tmp_path: Path) -> None:
    async with running_group(f"wait:{tmp_path / 'never'}", num_ranks=2) as watched:
        await watched.until(lambda: bool(watched.group.generation and watched.pids()))
        pids = watched.pids()
    async with asyncio.timeout(5):  # those that had not said hello die with their launcher
        while not all(is_gone(pid) for pid in pids):
            await asyncio.sleep(0.005)
    assert contents(tmp_path) == []


@pytest.mark.slow
async def test_the_elastic_launcher_runs_two_ranks_and_they_come_back_after_a_kill(
    temporary_folder: Path,
) -> None:
    command = launch_command(2, "tests.services.worker.front.fake_rank")
    async with running_group(num_ranks=2, command=command) as watched:
        await watched.until_serving()
        assert contents(temporary_folder) == []  # gone as soon as all ranks have come
        os.kill(watched.pids()[1], signal.SIGKILL)
        await watched.until(lambda: watched.group.state != SERVING, 1)
        await watched.until_serving(generation=2)
        pids = watched.pids()
        stopped_at = time.monotonic()
    assert time.monotonic() - stopped_at < 5
    assert all(is_gone(pid) for pid in pids)
    assert contents(temporary_folder) == []
