"""The cores and memory that this process may use."""

from __future__ import annotations

import ctypes
import os
import platform


def cores() -> int:
    """Return the number of cores this process may use, which a container or `taskset` may limit."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_arenas() -> None:
    """Keep glibc from giving each thread its own memory pool, which would double the size of a server.

    Works like MALLOC_ARENA_MAX=1 in the environment. Call it before threads start. Does nothing without glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(-8, 1)  # M_ARENA_MAX
