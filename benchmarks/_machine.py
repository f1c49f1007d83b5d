"""What the machine did during a phase: CPU seconds of our processes, and of everybody else's."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

_LOOK_S = 0.3

Processes = Mapping[str, Sequence[psutil.Process]]


@dataclass(slots=True)
class Usage:
    """Filled at the end of a phase."""

    seconds: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)  # by role
    others_share: float = 0.0  # of all cores, taken by processes that are not ours

    def rounded(self) -> dict[str, float]:
        """CPU seconds by role, for a result."""
        return {role: round(seconds, 2) for role, seconds in self.cpu_s.items()}


@contextmanager
def measured(processes: Processes) -> Iterator[Usage]:
    """Measures what happens within. `processes` are all of ours, by role."""
    usage = Usage()
    before, busy_before, start = _cpu_by_role(processes), _busy_s(), time.monotonic()
    yield usage
    usage.seconds = time.monotonic() - start
    busy_s = _busy_s() - busy_before
    after = _cpu_by_role(processes)
    usage.cpu_s = {role: max(0.0, after[role] - before[role]) for role in after}
    capacity_s = usage.seconds * (os.cpu_count() or 1)
    usage.others_share = max(0.0, (busy_s - sum(usage.cpu_s.values())) / capacity_s)


def wait_until_quiet(processes: Processes, *, limit: float, patience_s: float) -> bool:
    """Waits until others take at most the share `limit` of the machine; False: not in this time.

    Without patience it looks at nothing, and is True.
    """
    give_up_at = time.monotonic() + patience_s
    while time.monotonic() < give_up_at:
        with measured(processes) as usage:
            time.sleep(_LOOK_S)
        if usage.others_share <= limit:
            return True
    return patience_s <= 0


def _cpu_by_role(processes: Processes) -> dict[str, float]:
    return {role: sum(map(_cpu_s, group)) for role, group in processes.items()}


def _cpu_s(process: psutil.Process) -> float:
    """CPU seconds so far; 0 for one that has ended, such as a helper that was replaced."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _busy_s() -> float:
    """CPU seconds that the machine has worked since it started, over all cores."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)
