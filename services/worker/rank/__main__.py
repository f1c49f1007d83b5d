"""One rank of a worker group, started by the launcher: `python -m services.worker.rank`.

Says hello before it imports torch, which takes seconds: the front can tell a rank that loads from
one that never came.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

import structlog

from octavo.errors import OctavoError
from octavo.logs import configure_logs
from services.worker.link.messages import Failure, Hello, Progress
from services.worker.link.parent_death import die_with_parent
from services.worker.link.rank_config import ENVIRONMENT_NAME, RankConfig
from services.worker.link.rank_end import RankEnd
from services.worker.rank.activity import Activity, start_heartbeat
from services.worker.rank.inbox import Inbox
from services.worker.rank.kept_memory import keep_freed_memory
from services.worker.rank.thread_waiting import thread_waiting

log = structlog.get_logger()

LAST_WORDS_S = 2.0  # for the front to read why, and to kill this process


def main() -> int:
    """0 after a stop, 1 after a failure, which the front has heard of."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    config = RankConfig.from_json(os.environ[ENVIRONMENT_NAME])
    rank = int(os.environ["RANK"])
    configure_logs(f"rank {rank}", format=config.log_format, level=config.log_level)
    link = RankEnd(config.socket_path)
    link.send(Hello(rank=rank, pid=os.getpid(), generation=config.generation))
    try:
        _work(config, rank, link)
    except BaseException as error:  # noqa: BLE001 - whatever ends a rank, the front hears why
        _report(link, error)
        return 1
    link.close(LAST_WORDS_S)
    return 0


def _work(config: RankConfig, rank: int, link: RankEnd) -> None:
    activity = Activity(config.step_limit_ms)
    start_heartbeat(link, activity, config.heartbeat_ms)
    inbox = Inbox(link)
    os.environ.update(thread_waiting(os.environ))
    keep_freed_memory()
    link.send(Progress(stage="importing torch", loaded_bytes=0, total_bytes=0))
    # Imported here because they import torch: after the hello, and under the heartbeat.
    from services.worker.rank import loading, loop  # noqa: PLC0415

    loaded = loading.load(config, rank, link)
    link.send(loaded.ready)
    loop.run(loaded.engine, inbox, link, activity)


def _report(link: RankEnd, error: BaseException) -> None:
    permanent = isinstance(error, OctavoError)
    if not permanent:
        log.error("failed", exc_info=error)
    # Clients hear the cause: what an exception of ours says is for the log alone.
    cause = str(error) if permanent else f"it raised {type(error).__name__}; its log says where"
    link.send(Failure(cause=" ".join(cause.split()), permanent=permanent))
    # The front kills this process once it has read that. Were the process to end by itself, the
    # front might see its death first, and blame the exit status.
    threading.Event().wait(LAST_WORDS_S)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # the threads of torch and of the link need no farewell
