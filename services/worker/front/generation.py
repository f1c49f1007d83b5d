"""One generation of ranks, from its launcher's start to the end of its last process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from octavo.v1 import worker_pb2
from services.worker.front.rank_record import RankRecord
from services.worker.front.uninterrupted import uninterrupted
from services.worker.link.messages import (
    MAX_FRAME_BYTES,
    Failure,
    Hello,
    LinkError,
    Message,
    Ready,
    Stop,
    read_message,
)
from services.worker.link.parent_death import PARENT_PID
from services.worker.link.rank_config import ENVIRONMENT_NAME, RankConfig

log = structlog.get_logger()

LOOK_S = 0.1  # between looks at heartbeats
DEATH_LOOK_S = 0.005  # between looks at a process that is about to be gone
# A rank that loads may hold the interpreter for long, for instance while the linker maps libtorch.
LOADING_SILENCE_S = 60.0
MAX_UNREAD_BYTES = 2 * MAX_FRAME_BYTES  # a rank reads while it steps
STOP_S = 5.0  # for ranks to end by themselves, and then for the launcher


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """Which rank was lost first, and why; rank None where none had said hello."""

    rank: int | None
    cause: str
    permanent: bool = False

    def __str__(self) -> str:
        who = "the launcher" if self.rank is None else f"rank {self.rank}"
        return f"{who}: {self.cause}"


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationConfig:
    """What it takes to start ranks and to tell that one is lost.

    `make_rank_config` gets the socket's path and the generation's number.
    """

    command: Sequence[str]  # of the launcher
    num_ranks: int
    make_rank_config: Callable[[str, int], RankConfig]
    heartbeat_limit_s: float
    start_limit_s: float


class Generation:
    """`ready` gets what the ranks hold once all have loaded; `lost` gets the first loss.

    At the first loss all other ranks are killed here and now: a launcher would wait 30 s for one
    that cannot take SIGTERM.
    """

    def __init__(
        self,
        number: int,
        config: GenerationConfig,
        on_response: Callable[[worker_pb2.RunResponse], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.ranks: dict[int, RankRecord] = {}
        self.ready: asyncio.Future[Ready] = loop.create_future()
        self.lost: asyncio.Future[Loss] = loop.create_future()
        self._config = config
        self._on_response = on_response
        self._folder = Path(tempfile.mkdtemp(prefix="octavo-link-"))  # only this user may enter
        self._started_at = time.monotonic()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._readers: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._launcher: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Listens on the link and starts the launcher, which starts the ranks."""
        path = str(self._folder / "link")
        self._server = await asyncio.start_unix_server(self._on_connection, path)
        config = self._config.make_rank_config(path, self.number)
        environment = {
            **os.environ,
            ENVIRONMENT_NAME: config.to_json(),
            PARENT_PID: str(os.getpid()),
        }
        # Spawned from the main thread: the kernel ties the launcher's life to the thread.
        await uninterrupted(self._start_launcher(environment))
        assert self._launcher is not None
        self._tasks = [
            asyncio.create_task(self._watch_launcher(self._launcher)),
            asyncio.create_task(self._watch_heartbeats()),
        ]

    async def _start_launcher(self, environment: Mapping[str, str]) -> None:
        self._launcher = await asyncio.create_subprocess_exec(
            *self._config.command,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=2,  # what ranks print belongs to the log
            start_new_session=True,
        )

    def send(self, message: Message) -> None:
        """Sends to rank 0, which schedules; one that takes nothing is lost."""
        if 0 not in self.ranks:
            return
        self.ranks[0].send(message)
        if (num_bytes := self.ranks[0].num_unread_bytes) > MAX_UNREAD_BYTES:
            limit = f"limit {MAX_UNREAD_BYTES}"
            self._lose_rank(self.ranks[0], f"it left {num_bytes} bytes unread ({limit})")

    async def stop(self) -> None:
        """Asks the ranks to end, waits a little, and ends what is left."""
        self._stopping = True
        for record in self.ranks.values():
            record.send(Stop())
        everyone_came = len(self.ranks) == self._config.num_ranks
        if self._launcher is not None and everyone_came and not self.lost.done():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._launcher.wait(), STOP_S)
        await self.end()

    async def end(self) -> None:
        """Kills what is left of the generation and removes its traces."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        if self._server is not None:
            self._server.close()
        self._kill_ranks()
        if self._launcher is not None:
            await self._end_launcher(self._launcher)
        await self._wait_for_deaths()
        for reader in self._readers:
            reader.cancel()
        for record in self.ranks.values():
            asyncio.get_running_loop().remove_reader(record.pidfd)
            record.close()
        self._remove_folder()

    async def _end_launcher(self, launcher: asyncio.subprocess.Process) -> None:
        """Lets the launcher collect its dead ranks; ends those that never said hello."""
        if launcher.returncode is None and len(self.ranks) < self._config.num_ranks:
            launcher.terminate()
        try:
            await asyncio.wait_for(launcher.wait(), STOP_S)
        except TimeoutError:
            launcher.kill()  # and the kernel kills the ranks with it
            await launcher.wait()

    async def _wait_for_deaths(self) -> None:
        """What a killed rank holds (memory, devices) is free only once it is gone."""
        give_up_at = time.monotonic() + STOP_S
        while not all(record.is_dead() for record in self.ranks.values()):
            if time.monotonic() > give_up_at:
                log.error("killed ranks are still there", limit_s=STOP_S)
                return
            await asyncio.sleep(DEATH_LOOK_S)

    def _kill_ranks(self) -> None:
        for record in self.ranks.values():
            record.kill()

    def _lose(self, loss: Loss) -> None:
        if self.lost.done() or self._stopping:
            return
        self.lost.set_result(loss)
        self._kill_ranks()

    def _lose_rank(self, record: RankRecord, cause: str) -> None:
        """Blames the rank, unless another is found dead: then this one is a consequence."""
        permanent = record.failure is not None and record.failure.permanent
        for other in self.ranks.values():
            if other is not record and not record.is_dead() and other.is_dead():
                record, cause, permanent = other, other.end_cause, False
                break
        self._lose(Loss(rank=record.rank, cause=cause, permanent=permanent))

    async def _on_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._readers.add(task)
        task.add_done_callback(self._readers.discard)
        try:
            record = self._admit(await read_message(reader), writer)
            if record is not None:
                await self._read(record, reader)
        except LinkError as error:
            self._lose(Loss(rank=None, cause=f"the link broke: {error}"))
        except asyncio.CancelledError:
            pass  # `end` is done with this generation; asyncio would log the cancellation

    def _admit(self, hello: Message | None, writer: asyncio.StreamWriter) -> RankRecord | None:
        """Takes a rank of this generation in; anything else is turned away."""
        if not isinstance(hello, Hello) or not self._expects(hello):
            writer.close()
            return None
        try:
            record = RankRecord(hello, writer)
        except ProcessLookupError:
            self._lose(Loss(rank=hello.rank, cause="its process ended"))
            return None
        self.ranks[hello.rank] = record
        loop = asyncio.get_running_loop()
        loop.add_reader(record.pidfd, self._on_death, record)
        if len(self.ranks) == self._config.num_ranks:
            self._remove_folder()  # nobody else may come, and a killed front leaves no trace
        return record

    def _expects(self, hello: Hello) -> bool:
        is_new = 0 <= hello.rank < self._config.num_ranks and hello.rank not in self.ranks
        return is_new and hello.generation == self.number and not self._stopping

    def _on_death(self, record: RankRecord) -> None:
        asyncio.get_running_loop().remove_reader(record.pidfd)
        if record.is_dead():
            self._lose_rank(record, record.end_cause)

    async def _read(self, record: RankRecord, reader: asyncio.StreamReader) -> None:
        while (message := await read_message(reader)) is not None:
            record.note(message)
            if isinstance(message, worker_pb2.RunResponse):
                self._on_response(message)
            elif isinstance(message, Failure):
                self._lose_rank(record, message.cause)
            elif isinstance(message, Ready):
                self._note_ready()
        await self._lose_whose_link_closed(record)

    async def _lose_whose_link_closed(self, record: RankRecord) -> None:
        """A process that dies closes its link a moment before the kernel tells how it ended."""
        give_up_at = time.monotonic() + LOOK_S
        while not record.is_dead():
            await asyncio.sleep(DEATH_LOOK_S)
            if time.monotonic() > give_up_at:
                break
        self._lose_rank(record, record.end_cause if record.is_dead() else "it closed its link")

    def _note_ready(self) -> None:
        everyone = [record.ready for record in self.ranks.values() if record.ready is not None]
        if len(everyone) == self._config.num_ranks and not self.ready.done():
            ready = self.ranks[0].ready
            assert ready is not None
            self.ready.set_result(ready)

    async def _watch_launcher(self, launcher: asyncio.subprocess.Process) -> None:
        status = await launcher.wait()
        missing = sorted(set(range(self._config.num_ranks)) - self.ranks.keys())
        if missing:
            cause = f"it ended with status {status} before rank {missing[0]} had said hello"
        else:
            cause = f"it ended with status {status}"
        self._lose(Loss(rank=None, cause=cause))

    async def _watch_heartbeats(self) -> None:
        looked_at = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            # A front that was itself stopped finds all heartbeats old: it reads the new ones first.
            if now - looked_at < self._config.heartbeat_limit_s / 2:
                self._look(now)
            looked_at = now

    def _look(self, now: float) -> None:
        if not self.ready.done() and now - self._started_at > self._config.start_limit_s:
            limit = f"{self._config.start_limit_s:g} s"
            self._lose(Loss(rank=None, cause=f"its ranks had not loaded after {limit}"))
        for record in self.ranks.values():
            if cause := self._overdue(record):
                self._lose_rank(record, cause)

    def _overdue(self, record: RankRecord) -> str | None:
        beat = record.heartbeat
        loading = beat.activity == "loading"
        silence_limit_s = LOADING_SILENCE_S if loading else self._config.heartbeat_limit_s
        if record.heartbeat_age_s > silence_limit_s:
            return f"it was silent for {record.heartbeat_age_s:.1f} s (limit {silence_limit_s:g} s)"
        if beat.activity == "stepping" and beat.activity_ms > beat.limit_ms:
            return f"its step took {beat.activity_ms} ms (limit {beat.limit_ms} ms)"
        return None

    def _remove_folder(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
