"""What this process may use of the machine."""

from __future__ import annotations

import ctypes
import os
import platform


def cores() -> int:
    """Return the number of cores this process may use; a container or `taskset` may allow fewer than there are."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_arenas() -> None:
    """Keep glibc from giving each thread its own pool of freed memory, which makes a server grow to twice its size.

    The same as MALLOC_ARENA_MAX=1 in the environment. Call it before threads start. Without glibc it does nothing.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(-8, 1)  # M_ARENA_MAX
