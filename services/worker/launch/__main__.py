"""Runs one generation of ranks and ends with it: `python -m services.worker.launch`.

    --num-ranks N --rank-module MODULE --run-id ID

PyTorch's elastic launcher starts the ranks, gives them the rendezvous and notices when one ends.
It never restarts them (max_restarts=0): the front alone starts the next generation, with a fresh
launcher, because a store shared between attempts makes restarts fail on stale addresses.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys

from services.worker.link.parent_death import PARENT_PID, die_with_parent

# Read by torch when it is imported: ranks get a store of their own, not the launcher's.
_ENVIRONMENT = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
_SECONDS_BETWEEN_LOOKS = 0.1
# Signs of life are for launchers of other machines, and each makes the store a little larger.
_SECONDS_BETWEEN_SIGNS = 24 * 60 * 60


def main(argv: list[str] | None = None) -> int:
    """0 where every rank ended with 0, or after SIGTERM; 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m services.worker.launch")
    parser.add_argument("--num-ranks", type=int, required=True)
    parser.add_argument("--rank-module", required=True)
    parser.add_argument("--run-id", required=True)
    arguments = parser.parse_args(argv)
    die_with_parent()
    os.environ.update(_ENVIRONMENT)
    os.environ[PARENT_PID] = str(os.getpid())
    return _launch(arguments.num_ranks, arguments.rank_module, arguments.run_id)


def _launch(num_ranks: int, rank_module: str, run_id: str) -> int:
    # Imported late: torch reads the environment that main sets, and takes a second.
    # ruff: disable[PLC0415]
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch
    # ruff: enable[PLC0415]

    # The ranks of one machine meet in memory of this process: a store on TCP would listen on all
    # interfaces, and a file would outlive a kill.
    meeting_place = f"/proc/{os.getpid()}/fd/{os.memfd_create('rendezvous')}"
    logging.disable()  # the front reports what happens to ranks, and blames the right one

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_ranks,
        run_id=run_id,
        role="rank",
        rdzv_backend="c10d",
        rdzv_endpoint=meeting_place,
        rdzv_configs={"store_type": "file", "keep_alive_interval": _SECONDS_BETWEEN_SIGNS},
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=_SECONDS_BETWEEN_LOOKS,
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),  # else it leaves folders in /tmp
    )
    try:
        elastic_launch(config, sys.executable)("-m", rank_module)
    except ChildFailedError:
        return 1  # the front keeps its own record of which rank died first, and why
    except SignalException:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
