from __future__ import annotations

import pytest

from services.worker.rank.thread_waiting import SPIN_COUNT, thread_waiting


def test_a_rank_spins_for_a_moment() -> None:
    assert thread_waiting({"PATH": "/bin"}) == {"GOMP_SPINCOUNT": SPIN_COUNT}


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_what_the_user_chose_stays(name: str) -> None:
    assert thread_waiting({name: "0"}) == {}
