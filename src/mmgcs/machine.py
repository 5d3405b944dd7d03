"""What this process may use of the machine."""

from __future__ import annotations

import os


def cores() -> int:
    """Return the number of cores this process may use; a container or `taskset` may allow fewer than there are."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
