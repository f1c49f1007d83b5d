"""How OpenMP's threads wait for each other: chosen before torch is imported, which reads it.

They spin for a moment and then sleep. Why, and for how long: docs/decisions/0005.
"""

from __future__ import annotations

from collections.abc import Mapping

SPIN_COUNT = "1000"  # 10 to 20 us


def thread_waiting(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables to set; none where the user has chosen in `environment`."""
    if "OMP_WAIT_POLICY" in environment or "GOMP_SPINCOUNT" in environment:
        return {}
    return {"GOMP_SPINCOUNT": SPIN_COUNT}
