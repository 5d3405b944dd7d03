"""Access control: the API key, the rate of requests, and how much a request may send."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from flask import Flask, request
from flask_limiter import ApplicationLimit, Limiter
from flask_limiter.util import get_remote_address
from limits import parse
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import HTTPException, TooManyRequests, Unauthorized

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
                    f"{settings.burst} per {window} seconds",
                    exempt_when=lambda: request.method not in GUARDED,
                    error_message="too many requests; try again later",
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

    def check_key(self, address: str, authorization: str, key: str) -> None:
        """Check the key in a request's headers Authorization and X-API-Key, and count wrong ones by address.

        Raises:
            Unauthorized: the key is missing or wrong.
            TooManyRequests: too many wrong keys came from this address.
        """
        if not self._key:
            return
        counter = self._limiter.limiter
        if not counter.test(WRONG_KEYS, "wrong keys", address):
            raise TooManyRequests("too many wrong API keys from this address; try again in a minute", retry_after=60)
        scheme, _, token = authorization.partition(" ")
        given = (token if scheme.lower() == "bearer" else key).strip()
        if hmac.compare_digest(given.encode("utf-8", "replace"), self._key):
            return
        if given:
            counter.hit(WRONG_KEYS, "wrong keys", address)
        missing = "this server requires an API key; send it as Authorization: Bearer KEY"
        raise Unauthorized(
            "the API key is wrong" if given else missing, www_authenticate=WWWAuthenticate("bearer", {"realm": "mmgcs"})
        )

    def max_body(self, path: str) -> int:
        """Return how many bytes a request to this path may send."""
        if path.startswith("/api/v1/batch"):
            return max(self._settings.max_table, self._settings.max_body) + SMALL_BODY
        if path.startswith(("/predict", "/api/v1/", "/v2/")):
            return self._settings.max_body
        return SMALL_BODY

    def max_body_after(self, address: str, path: str, headers: Mapping[str, str]) -> int:
        """Return how many bytes of a body to receive after these headers, which are named like "X_API_KEY"."""
        forwarded = headers.get("X_FORWARDED_FOR", "").split(",")
        if 0 < self._settings.trust_proxy <= len(forwarded):
            address = forwarded[-self._settings.trust_proxy].strip()
        try:
            self.check_key(address, headers.get("AUTHORIZATION", ""), headers.get("X_API_KEY", ""))
        except HTTPException:
            return SMALL_BODY
        return self.max_body(path)
