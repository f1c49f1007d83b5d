"""Memory that is freed stays with the process: every layer of every step takes it again.

A step's scratch is larger than what glibc keeps. Given back to the system at each free, it returns
page by page, and the faults cost a multiple of the arithmetic.
"""

from __future__ import annotations

import ctypes

# Of mallopt(3), in malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MOST_KEPT_BYTES = 2**30
_LARGEST_FROM_HEAP_BYTES = 32 * 2**20  # the most that glibc takes


def keep_freed_memory() -> None:
    """Tells the allocator; before large memory is used. Without effect where it is not glibc's."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT_BYTES)
