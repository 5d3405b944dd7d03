"""What the machine lets this process use."""

from __future__ import annotations

import os


def cores() -> int:
    """The cores that this process may run on, which a container or `taskset` makes fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
