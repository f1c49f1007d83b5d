"""How long steps take: counted by a rank, carried by its heartbeats, shown by the front."""

from __future__ import annotations

# Upper bounds of the histogram's buckets, in seconds; one more bucket holds what is above.
STEP_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0)
