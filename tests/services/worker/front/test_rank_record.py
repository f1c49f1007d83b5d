"""How a process's end is put into words."""

from __future__ import annotations

import pytest

from services.worker.front.rank_record import describe_exit


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (None, "its process ended"),
        (9, "its process was ended by SIGKILL (the kernel's, if memory ran out)"),
        (11 | 128, "its process was ended by SIGSEGV"),
        (3 << 8, "its process ended with status 3"),
    ],
)
def test_wait_statuses(status: int | None, words: str) -> None:
    assert describe_exit(status) == words
