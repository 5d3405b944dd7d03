"""What a running server can be told: limits, access and how it starts and stops."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from mmgcs.errors import UsageError

PREFIX = "MMGCS_"

_MOST, _MOST_SECONDS = 10**12, 10**9
_PROTECTING = ("API_KEY", "RATE", "BURST", "TRUST_PROXY")


@dataclass(frozen=True, slots=True)
class Settings:
    """The server's settings; each can be given in the environment as MMGCS_<NAME>, for example MMGCS_MAX_BODY.

    Attributes:
        max_body: bytes of a request at most, except a table to tag.
        max_table: bytes of a table to tag at most.
        max_poster: bytes of a poster at most.
        max_pixels: width times height of a poster at most.
        max_plot: characters of a plot at most.
        max_batch: films of one batch request at most.
        max_rows: films of a table to tag at most.
        max_jobs: tables that wait or are tagged at once at most.
        job_minutes: how long a tagged table can be fetched, in minutes.
        queue: requests that wait for a thread, and films that wait for the model, at most; more are answered 503.
        timeout: seconds after which a waiting request is answered 503.
        receive: seconds that a request may take to arrive.
        threads: requests that are worked on at once.
        connections: connections that are open at once; on Windows 500 at most.
        rate: requests a second that one address may make over time; 0 for any number.
        burst: requests that one address may make at once where `rate` is set.
        api_key: what a request for a prediction must carry; empty for nothing.
        trust_proxy: proxies in front whose X-Forwarded-For is believed.
        drain: seconds after SIGTERM in which the server is not ready and still takes requests, so that a load
            balancer can notice.
        grace: seconds that requests in flight then have.
        data: a file of what `mmgcs data inspect FILMS --json` prints, whose charts the page on data shows.
    """

    max_body: int = 12 * 2**20
    max_table: int = 64 * 2**20
    max_poster: int = 10 * 2**20
    max_pixels: int = 40_000_000
    max_plot: int = 50_000
    max_batch: int = 64
    max_rows: int = 100_000
    max_jobs: int = 4
    job_minutes: int = 60
    queue: int = 256
    timeout: float = 30.0
    receive: float = 120.0
    threads: int = 24
    connections: int = 1000
    rate: float = 0.0
    burst: int = 20
    api_key: str = ""
    trust_proxy: int = 0
    drain: float = 1.0
    grace: float = 30.0
    data: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """Settings from MMGCS_* variables, with those in `given` that are not None on top.

        Raises:
            UsageError: a variable is no setting, or its value is not a number, or one that cannot be, or no key.
        """
        environment = os.environ if environment is None else environment
        _refuse_misspelt(environment)
        values: dict[str, Any] = {}
        for field in fields(cls):
            name = PREFIX + field.name.upper()
            if environment.get(name):  # empty is not set: compose files pass on what may be missing so
                values[field.name] = _parse(name, environment[name], type(field.default))
        values.update({name: value for name, value in given.items() if value is not None})
        settings = cls(**values)
        for field in fields(cls):
            value = getattr(settings, field.name)
            least = 0 if field.name in ("rate", "trust_proxy", "drain", "grace", "max_jobs") else 1
            most = _MOST_SECONDS if isinstance(field.default, float) else _MOST  # no clock of Python's waits for longer
            if not isinstance(value, str) and not least <= value <= most:
                raise UsageError(f"{PREFIX}{field.name.upper()} is {value}; it must be from {least} to {most:,}")
        _check_key(settings.api_key, given=values.get("api_key") is not None)
        return settings


def port_from(environment: Mapping[str, str]) -> int:
    """The port in the variable PORT; 10000 without it. Raises UsageError for what is no port."""
    text = environment.get("PORT", "10000").strip()
    if not text.isascii() or not text.isdigit() or not int(text) < 65536:
        raise UsageError(f"PORT is {text!r}; give a number from 0 to 65535")
    return int(text)


def _parse(name: str, text: str, kind: type) -> Any:
    try:
        return kind(text.strip())
    except ValueError:
        raise UsageError(f"{name} is {text!r}, not a number; correct it or leave it out") from None


def _refuse_misspelt(environment: Mapping[str, str]) -> None:
    """A misspelt name must not leave a server without the protection that someone believes it has.

    Other names with our prefix are left alone: Kubernetes sets MMGCS_SERVICE_HOST for a service called mmgcs.
    """
    known = [field.name.upper() for field in fields(Settings)]
    for name in environment:
        ours = name.removeprefix(PREFIX)
        near = difflib.get_close_matches(ours, _PROTECTING, n=1, cutoff=0.85)
        if ours != name and ours not in known and near:
            raise UsageError(f"{name} is no setting; do you mean {PREFIX}{near[0]}? Correct it or leave it out")


def _check_key(key: str, *, given: bool) -> None:
    if given and not key:
        raise UsageError(f"{PREFIX}API_KEY is blank, so nothing would be protected; give a key or leave it out")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UsageError(f"{PREFIX}API_KEY has characters other than letters, digits and punctuation of ASCII")
