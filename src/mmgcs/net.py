"""What every client of the web needs."""

from __future__ import annotations

import email.utils
import time


def retry_after(value: str | None) -> float | None:
    """The seconds that a `Retry-After` header asks for, given as a number or a date; None without a valid one.

    >>> retry_after("2"), retry_after("soon")
    (2.0, None)
    >>> retry_after("²")
    """
    if value is None:
        return None
    if value.isascii() and value.strip().isdigit():  # "²" is a digit too
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, when - time.time())
