"""A rank without torch: the real loop around an engine that does what a prompt's first id says."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from pathlib import Path

from octavo.errors import InvalidArgumentError
from octavo.logs import configure_logs
from services.worker.engine.request import Submission
from services.worker.engine.step_output import (
    Finish,
    FinishReason,
    Load,
    OutputItem,
    StepOutput,
    Timings,
)
from services.worker.link.messages import Hello, Ready
from services.worker.link.parent_death import die_with_parent
from services.worker.link.rank_config import ENVIRONMENT_NAME, RankConfig
from services.worker.link.rank_end import RankEnd
from services.worker.rank import loop
from services.worker.rank.__main__ import _report
from services.worker.rank.activity import Activity, start_heartbeat
from services.worker.rank.inbox import Inbox

ECHO, KEEP, RAISE, HANG, STOP_SELF, EXIT = range(1, 7)

READY = Ready(
    max_context_tokens=512,
    vocabulary_size=320,
    eos_token_ids=[1],
    temperature=None,
    top_p=None,
    top_k=None,
    dtype="float32",
    numerics_fingerprint="fake",
    kv_blocks=100,
    kv_block_tokens=16,
)


class FakeEngine:
    """ECHO gives the prompt back and ends; KEEP stays open, one block each, until a cancel."""

    def __init__(self) -> None:
        self.items: list[OutputItem] = []
        self.kept: set[int] = set()
        self.act = KEEP
        self.step_number = 0

    @property
    def has_work(self) -> bool:
        return bool(self.items) or self.act > KEEP

    def submit(self, submission: Submission) -> None:
        self.act = submission.prompt_ids[0]
        keep = self.act != ECHO
        if keep:
            self.kept.add(submission.key)
        ids = submission.prompt_ids
        item = OutputItem(key=submission.key, token_ids=ids, started=True)
        self.items.append(item if keep else _ended(item, FinishReason.LENGTH))

    def cancel(self, keys: list[int]) -> None:
        for key in self.kept & set(keys):
            self.kept.remove(key)
            self.items.append(_ended(OutputItem(key=key), FinishReason.CANCELLED))

    def cancel_outputs(self, outputs: list[tuple[int, int]]) -> None:
        """Its requests have one output."""

    def step(self) -> StepOutput:
        self._misbehave()
        self.step_number += 1
        items, self.items = self.items, []
        load = Load(
            step=self.step_number,
            num_running=len(self.kept),
            num_waiting=0,
            num_waiting_prompt_tokens=0,
            num_used_blocks=len(self.kept),
            num_blocks=READY.kv_blocks,
            num_preemptions=0,
            num_step_prompt_tokens=0,
        )
        return StepOutput(items=tuple(items), load=load)

    def _misbehave(self) -> None:
        if self.act == RAISE:
            raise ZeroDivisionError("the kernel failed")
        if self.act == HANG:
            threading.Event().wait()
        if self.act == STOP_SELF:
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.act == EXIT:
            os._exit(7)


def _ended(item: OutputItem, reason: FinishReason) -> OutputItem:
    timings = Timings(queue_ms=0, prefill_ms=0, decode_ms=0, num_preemptions=0)
    return dataclasses.replace(item, finish=Finish(reason=reason), timings=timings)


def main() -> int:
    die_with_parent()
    config = RankConfig.from_json(os.environ[ENVIRONMENT_NAME])
    rank = int(os.environ["RANK"])
    configure_logs(f"rank {rank}", format=config.log_format, level=config.log_level)
    link = RankEnd(config.socket_path)
    link.send(Hello(rank=rank, pid=os.getpid(), generation=config.generation))
    activity = Activity(config.step_limit_ms)
    start_heartbeat(link, activity, config.heartbeat_ms)
    inbox = Inbox(link)
    try:
        _load(config)
        link.send(READY)
        loop.run(FakeEngine(), inbox, link, activity)
    except Exception as error:  # noqa: BLE001 - as the real rank does
        _report(link, error)
        return 1
    link.close(5)
    return 0


def _load(config: RankConfig) -> None:
    """`model` says how: fail, permanent, or wait:PATH until the file is there."""
    how, _, path = config.model.partition(":")
    if how == "fail":
        raise MemoryError("no room")
    if how == "permanent":
        raise InvalidArgumentError("model.safetensors: tensor x is broken.")
    while how == "wait" and not Path(path).exists():
        time.sleep(0.01)


if __name__ == "__main__":
    os._exit(main())
