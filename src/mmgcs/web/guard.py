"""Access control: the API key, the rate of requests, and how much a request may send."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from flask import Flask, Request, request
from flask_limiter import ApplicationLimit, Limiter
from flask_limiter.util import get_remote_address
from limits import parse

from mmgcs.web.errors import TooManyError, UnauthorizedError
from mmgcs.web.settings import Settings

GUARDED = ("POST", "DELETE")
"""Methods that need a key and count towards the rate."""

SMALL_BODY = 65_536
"""Bytes a request may send to an address that reads none, or without the key."""

WRONG_KEYS = parse("20/minute")
"""Wrong keys accepted from one address; then it has to wait."""


class Guard:
    """Check who may ask, how often, and how much they may send."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        """Install the rate limit of the settings in the application."""
        self._settings = settings
        self._key = settings.api_key.encode()
        limits = []
        if settings.rate:
            window = max(1, round(settings.burst / settings.rate))
            limits.append(
                ApplicationLimit(
                    f"{settings.burst} per {window} seconds", exempt_when=lambda: request.method not in GUARDED
                )
            )
        self._limiter = Limiter(
            get_remote_address,
            app=app,
            application_limits=list(limits),
            strategy="moving-window",
            storage_uri="memory://",
            headers_enabled=True,
        )

    def check_key(self, incoming: Request) -> None:
        """Check the key of a request, and count wrong ones.

        Raises:
            UnauthorizedError: the key is missing or wrong.
            TooManyError: too many wrong keys came from this address.
        """
        headers = incoming.headers
        problem = self._problem_of_key(
            incoming.remote_addr or "", headers.get("Authorization", ""), headers.get("X-API-Key", "")
        )
        if problem is not None:
            raise problem

    def max_body(self, path: str) -> int:
        """Return how many bytes a request to this path may send."""
        if path.startswith("/api/v1/batch"):
            return max(self._settings.max_table, self._settings.max_body) + SMALL_BODY
        if path.startswith(("/predict", "/api/v1/", "/v2/")):
            return self._settings.max_body
        return SMALL_BODY

    def rejects_headers(self, address: str, path: str, headers: Mapping[str, str], length: int) -> bool:
        """Return True if the body that follows these headers must not be received.

        Args:
            address: the client's address.
            path: the path asked for.
            headers: by names such as "X_API_KEY".
            length: bytes of the body, announced or already received.
        """
        if length <= SMALL_BODY:
            return False
        return length > self.max_body(path) or (
            self._problem_of_key(address, headers.get("AUTHORIZATION", ""), headers.get("X_API_KEY", "")) is not None
        )

    def _problem_of_key(self, address: str, authorization: str, key: str) -> UnauthorizedError | TooManyError | None:
        if not self._key:
            return None
        counter = self._limiter.limiter
        if not counter.test(WRONG_KEYS, "wrong keys", address):
            return TooManyError("too many wrong API keys from this address; try again in a minute")
        scheme, _, token = authorization.partition(" ")
        given = (token if scheme.lower() == "bearer" else key).strip()
        if hmac.compare_digest(given.encode("utf-8", "replace"), self._key):
            return None
        if not given:
            return UnauthorizedError("this server requires an API key; send it as Authorization: Bearer KEY")
        counter.hit(WRONG_KEYS, "wrong keys", address)
        return UnauthorizedError("the API key is wrong")
