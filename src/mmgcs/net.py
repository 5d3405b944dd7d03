"""What every client of the web needs."""

from __future__ import annotations

import email.utils
import time


def retry_after(value: str | None) -> float | None:
    """The seconds that a `Retry-After` header asks for, given as a number or a date; None without a valid one.

    >>> retry_after("2"), retry_after("soon")
    (2.0, None)
    """
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, when.timestamp() - time.time())
