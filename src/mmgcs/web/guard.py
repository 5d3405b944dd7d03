"""Who may ask, and how often."""

from __future__ import annotations

import hmac
import threading
import time
from collections import OrderedDict

from flask import Request

from mmgcs.web.errors import TooManyError, UnauthorizedError
from mmgcs.web.settings import Settings

MOST_ADDRESSES = 10_000
"""Addresses that are remembered; the longest quiet is forgotten first."""


class RateLimit:
    """A token bucket an address: `burst` requests at once, `rate` a second over time."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str, now: float | None = None) -> None:
        """Count one request. Raises TooManyError where the address has made too many."""
        now = time.monotonic() if now is None else now
        with self._lock:
            left, since = self._buckets.pop(address, (float(self._burst), now))
            left = min(float(self._burst), left + (now - since) * self._rate)
            self._buckets[address] = (left - 1.0 if left >= 1.0 else left, now)
            if len(self._buckets) > MOST_ADDRESSES:
                self._buckets.popitem(last=False)
        if left < 1.0:
            wait = max(1, round((1.0 - left) / self._rate + 0.5))
            raise TooManyError(f"too many requests; try again in {wait} s", wait)


class Guard:
    """Checks the API key and the rate of requests that cost something."""

    def __init__(self, settings: Settings) -> None:
        self._key = settings.api_key.encode()
        self._limit = RateLimit(settings.rate, settings.burst) if settings.rate else None

    def check(self, request: Request) -> None:
        """Raise UnauthorizedError or TooManyError where the request may not go on."""
        if self._key:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            given = token if scheme.lower() == "bearer" else request.headers.get("X-API-Key", "")
            if not hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._key):
                raise UnauthorizedError("this server asks for an API key; send it as Authorization: Bearer KEY")
        if self._limit is not None:
            self._limit.take(request.remote_addr or "")
