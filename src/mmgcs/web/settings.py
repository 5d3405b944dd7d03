"""The server's settings: limits, access control, and how it starts and stops."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mmgcs.errors import UsageError
from mmgcs.wording import refusals

PREFIX = "MMGCS_"

FORM_BYTES = 65_536
"""Bytes allowed for the form around a table, and for a body sent to a path that reads none."""

_PROTECTIVE = ("API_KEY", "RATE", "BURST", "TRUST_PROXY", "CORS_ORIGINS")
"""Settings whose misspelling would leave a server unprotected."""

Positive = Annotated[int, Field(ge=1, le=10**12)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Seconds = Annotated[float, Field(ge=0, le=10**9)]
PositiveSeconds = Annotated[float, Field(ge=1, le=10**9)]


class Settings(BaseSettings):
    """The server's settings. Each is read from the environment variable MMGCS_<NAME>, for example MMGCS_MAX_BODY."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,  # compose files pass on variables that may be unset
        extra="forbid",
        frozen=True,
        str_strip_whitespace=True,
        validate_default=False,
    )

    model: Path | None = Field(None, description="The bundle to serve; without it, the default model.")
    max_body: Positive = Field(12 * 2**20, description="Bytes in a request, except for an uploaded table.")
    max_table: Positive = Field(64 * 2**20, description="Bytes in an uploaded table.")
    max_poster: Positive = Field(10 * 2**20, description="Bytes in a poster.")
    max_pixels: Positive = Field(40_000_000, description="Pixels (width times height) in a poster.")
    max_plot: Positive = Field(50_000, description="Characters in a plot.")
    max_batch: Positive = Field(64, description="Films in one batch request.")
    max_rows: Positive = Field(100_000, description="Films in an uploaded table.")
    max_jobs: Count = Field(4, description="Tables that are waiting or being tagged at the same time.")
    job_minutes: Positive = Field(60, description="Minutes for which a tagged table can be downloaded.")
    queue: Positive = Field(
        256, description="Requests waiting for a thread, and films waiting for the model; more get 503."
    )
    timeout: PositiveSeconds = Field(30.0, description="Seconds a request may wait for the model before it gets 503.")
    receive: PositiveSeconds = Field(120.0, description="Seconds without traffic after which a connection is closed.")
    threads: Positive = Field(24, description="Requests handled at the same time.")
    connections: Positive = Field(1000, description="Open connections; at most 500 on Windows.")
    rate: Seconds = Field(0.0, description="Requests per second allowed from one address over time; 0 for no limit.")
    burst: Positive = Field(20, description="Requests allowed at once from one address when MMGCS_RATE is set.")
    api_key: str = Field("", description="The API key that predictions require; empty for none.")
    trust_proxy: Count = Field(
        0, description="Number of trusted proxies in front, whose X-Forwarded-For, -Proto, -Host and -Prefix are used."
    )
    cors_origins: str = Field(
        "", description='Origins whose pages may call the API, separated by spaces, or "*"; empty for none.'
    )
    drain: Seconds = Field(
        1.0, description="Seconds after SIGTERM in which requests are still accepted while /readyz answers 503."
    )
    grace: Seconds = Field(30.0, description="Seconds that requests in flight then have to finish.")
    data: str = Field(
        "", description="A file with the output of `mmgcs data inspect FILMS --json`, shown on the data page."
    )

    @property
    def largest_body(self) -> int:
        """The most bytes that any request may send."""
        return max(self.max_table, self.max_body) + FORM_BYTES

    def max_body_of(self, path: str) -> int:
        """Return the most bytes that a request to this path may send."""
        if path.startswith("/api/v1/batch"):
            return self.largest_body
        return self.max_body if path.startswith(("/predict", "/api/v1/", "/v2/")) else FORM_BYTES

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, key: str) -> str:
        if not key:
            raise ValueError("is blank, so nothing would be protected; set a key or remove the setting")
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ValueError("may contain only ASCII letters, digits and punctuation")
        return key


def load_settings(**given: Any) -> Settings:
    """Return the settings from the environment, overridden by those in `given` that are not None.

    Raises:
        UsageError: a setting has an invalid value, or the name of a protective one is misspelt.
    """
    known = [name.upper() for name in Settings.model_fields]
    for name in os.environ:
        # Others with our prefix are ignored: Kubernetes sets MMGCS_SERVICE_HOST for a service called mmgcs.
        suffix = name.removeprefix(PREFIX)
        close = difflib.get_close_matches(suffix, _PROTECTIVE, n=1, cutoff=0.85)
        if suffix != name and suffix not in known and close:
            raise UsageError(f"{name} is not a setting; did you mean {PREFIX}{close[0]}? Correct or remove it")
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        name, problem = refusals(error, Settings, "setting")[0]
        raise UsageError(f"{PREFIX}{name.upper()} {problem}") from None
