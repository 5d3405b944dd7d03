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
    if _is_number(value):
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError, TypeError):  # no date, or one that no clock reaches
        return None
    return max(0.0, when - time.time())


def content_length(value: str | None) -> int | None:
    """The bytes that a `Content-Length` header promises; None without a valid one.

    >>> content_length("300"), content_length("\xb2")
    (300, None)
    """
    if value is None or not _is_number(value) or len(value) > 18:  # more than any disk holds
        return None
    return int(value)


def _is_number(value: str) -> bool:
    # Headers are Latin-1, in which "²" is a digit to `isdigit` and none to `int` and `float`.
    return value.isascii() and value.strip().isdigit()
