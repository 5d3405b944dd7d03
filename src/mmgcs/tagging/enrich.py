"""Looking up what films lack: missing plots and posters, by the films' ids, at a service that the user has a key for.

Off unless asked for. A new service is a class registered under its name.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode, urlsplit

from mmgcs.errors import InputError, MmgcsError, UsageError
from mmgcs.film import Film
from mmgcs.http import content_length, retry_after
from mmgcs.registry import Registry
from mmgcs.tagging.answers import Answers, default_cache

DAY = 86_400.0
MAX_BYTES = 20 * 2**20
GIVE_UP = 10
"""Films in a row that could not be looked up, after which the service counts as away and the run stops."""
_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
_IMDB = re.compile(r"tt\d{5,10}")
_POSTER = re.compile(r"/[\w.-]+")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LookUp:
    """How a service is asked.

    Attributes:
        key: the user's key.
        api: the base address of the service; its own one without it.
        images: the base address of its pictures; its own one without it.
        language: of plots.
        rate: requests a second at most.
        concurrency: requests under way at once.
        retries: further tries after a failure that may pass.
        backoff: seconds before the first further try, doubled for each one after it, with jitter.
        max_wait: the longest wait in seconds, also where the service asks for more.
        timeout: seconds without a byte.
        cache: a SQLite file of answers.
    """

    key: str = field(repr=False)
    api: str | None = None
    images: str | None = None
    language: str = "en-US"
    rate: float = 20.0
    concurrency: int = 8
    retries: int = 4
    backoff: float = 0.5
    max_wait: float = 60.0
    timeout: float = 15.0
    cache: Path = field(default_factory=lambda: default_cache("tmdb"))


class Enricher(Protocol):
    """Fills in what films lack. Close it after use."""

    def __call__(self, films: list[Film]) -> list[Film]:
        """Films with what they lacked, in the same order."""

    def close(self) -> None:
        """End its threads and close its files."""


ENRICHERS: Registry[Callable[[LookUp], Enricher]] = Registry("service to look films up at")


def enricher(name: str, *, key: str | None = None, **options: Any) -> Enricher:
    """The enricher of a name. What is not given is taken from the environment: `$TMDB_API_KEY` and so on.

    Args:
        name: a name in `ENRICHERS`.
        key: the user's key.
        options: further fields of `LookUp`; None leaves one as it is.

    Raises:
        UsageError: there is no such service, or no key.
    """
    make = ENRICHERS[name]
    prefix = name.upper()
    key = key or os.environ.get(f"{prefix}_API_KEY")
    if not key or not key.strip():
        raise UsageError(f"--enrich {name} needs your key; set {prefix}_API_KEY in the environment")
    bases = {"api": os.environ.get(f"{prefix}_API_URL"), "images": os.environ.get(f"{prefix}_IMAGES_URL")}
    options = {**{field: value or None for field, value in bases.items()}, **options}
    return make(LookUp(key.strip(), **{name: value for name, value in options.items() if value is not None}))


class _FailedError(Exception):
    """A look-up that failed for one film."""


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the key must not travel."""

    def redirect_request(self, *_: Any) -> None:
        return None


@ENRICHERS.register("tmdb")
class Tmdb:
    """The Movie Database, by `tmdb_id`, by an IMDb id, or by an `id` that is a number where the titles agree.

    What it answers is kept for as long as its terms allow. A film that cannot be looked up gets a warning.
    """

    API = "https://api.themoviedb.org/3"
    IMAGES = "https://image.tmdb.org/t/p/w342"
    KEEP = {200: 180 * DAY, 404: 7 * DAY}  # noqa: RUF012  a constant

    def __init__(self, options: LookUp) -> None:
        """Raises UsageError where a base address is none, or the cache cannot be used."""
        self._options = options
        self._api = _base(options.api or self.API)
        self._images = _base(options.images or self.IMAGES)
        self._answers = Answers(options.cache)
        self._open = urllib.request.build_opener(_StayHere).open
        self._pool = ThreadPoolExecutor(options.concurrency, thread_name_prefix="mmgcs-enrich")
        self._lock = threading.Lock()
        self._next = 0.0
        self._failed_in_a_row = 0

    def __call__(self, films: list[Film]) -> list[Film]:
        """Films with the plots and posters that they lacked, where TMDB has them.

        Raises:
            UsageError: TMDB refuses the key.
            MmgcsError: TMDB stays away.
        """
        return list(self._pool.map(self._completed, films))

    def close(self) -> None:
        """End the threads, once what they ask for has come, and close the cache."""
        self._pool.shutdown(cancel_futures=True)
        self._answers.close()

    def _completed(self, film: Film) -> Film:
        if film.problem is not None or (film.plot is not None and film.poster is not None):
            return film
        plot, poster, notes = film.plot, film.poster, list(film.warnings)
        what = "it"
        try:
            movie = self._movie(film)
            if movie is None:
                return film
            overview, path = movie.get("overview"), movie.get("poster_path")
            if plot is None and isinstance(overview, str) and overview.strip():
                plot = overview
                notes.append("the plot was looked up at TMDB")
            if poster is None and isinstance(path, str) and _POSTER.fullmatch(path):
                what = "the poster"
                poster = self._ask(f"{self._images}{path}", _picture)
                if poster is not None:
                    notes.append("the poster was looked up at TMDB")
        except _FailedError as failure:
            notes.append(f"{what} could not be looked up at TMDB: {failure}")
        return replace(film, plot=plot, poster=poster, warnings=tuple(notes))

    def _movie(self, film: Film) -> dict[str, Any] | None:
        """What TMDB knows of a film; None where it knows nothing, or the film has no id of its kind."""
        columns = {str(name).strip().casefold(): str(value).strip() for name, value in film.record.items() if value}
        tmdb = columns.get("tmdb_id", "").removesuffix(".0")
        imdb = next((name for name in (columns.get("imdb_id", ""), film.id) if _IMDB.fullmatch(name)), None)
        language = urlencode({"language": self._options.language})
        if tmdb.isdecimal():
            return self._json(f"/movie/{int(tmdb)}?{language}")
        if imdb is not None:
            found = (self._json(f"/find/{imdb}?external_source=imdb_id&{language}") or {}).get("movie_results")
            return found[0] if isinstance(found, list) and found and isinstance(found[0], dict) else None
        if film.id.isdecimal() and film.title is not None:
            # A bare number may be anybody's; another film's plot would be worse than none.
            movie = self._json(f"/movie/{int(film.id)}?{language}") or {}
            titles = {_folded(movie.get(name)) for name in ("title", "original_title")}
            return movie if _folded(film.title) in titles else None
        return None

    def _json(self, path: str) -> dict[str, Any] | None:
        return self._ask(f"{self._api}{path}", _object, keyed=True)

    def _ask(self, address: str, read: Callable[[bytes], T], *, keyed: bool = False) -> T | None:
        """What `read` makes of the body at an address, kept or fetched; None where there is nothing."""
        kept = self._answers.get(address, self.KEEP)
        if kept is not None:
            with contextlib.suppress(_FailedError):  # one that cannot be read is fetched again
                return read(kept[1]) if kept[0] == 200 else None
        status, body = self._fetched(address, keyed)
        # Read before it is kept: the sign-in page of a network answers every address with 200.
        value = read(body) if status == 200 else None
        self._answers.put(address, status, body)
        return value

    def _fetched(self, address: str, keyed: bool) -> tuple[int, bytes]:
        problem = ""
        for attempt in range(self._options.retries + 1):
            try:
                status, body, after = self._request(address, keyed)
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                problem, status, body, after = str(reason) or type(error).__name__, 0, b"", None
            if status in (200, 404):
                self._failed_in_a_row = 0
                return status, body
            if status in (401, 403) and keyed:
                raise UsageError(f"TMDB refuses the key (HTTP {status}); check TMDB_API_KEY")
            if status:
                problem = f"HTTP {status}"
            if status and status not in _TEMPORARY:
                raise _FailedError(problem)
            wait = self._options.backoff * 2**attempt * random.uniform(0.5, 1.0)  # noqa: S311
            if after is not None:
                if after > self._options.max_wait:
                    problem = f"{problem}, and it asks to wait for {after:.0f} s"
                    break
                self._rest(after)
            elif attempt < self._options.retries:
                time.sleep(min(wait, self._options.max_wait))
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= GIVE_UP:
            raise MmgcsError(f"TMDB does not answer ({problem}); run the same command again later, files with --resume")
        raise _FailedError(problem)

    def _request(self, address: str, keyed: bool) -> tuple[int, bytes, float | None]:
        self._turn()
        headers = {"User-Agent": "mmgcs", "Accept": "application/json" if keyed else "image/*"}
        if keyed and self._options.key.startswith("ey"):  # a read access token; the older keys go into the address
            headers["Authorization"] = f"Bearer {self._options.key}"
        elif keyed:
            address = f"{address}&{urlencode({'api_key': self._options.key})}"
        request = urllib.request.Request(address, headers=headers)  # noqa: S310  `_base` checked the scheme
        try:
            with self._open(request, timeout=self._options.timeout) as response:
                body: bytes = response.read(MAX_BYTES + 1)
                if len(body) > MAX_BYTES:
                    raise _FailedError(f"the answer is larger than {MAX_BYTES:,} bytes")
                if len(body) < (content_length(response.headers.get("Content-Length")) or 0):
                    raise http.client.IncompleteRead(body)  # read() with a limit does not look
                return int(response.status), body, None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, b"", retry_after(error.headers.get("Retry-After"))

    def _turn(self) -> None:
        """Wait for this request's turn: so many a second, whichever thread asks."""
        with self._lock:
            at = max(time.monotonic(), self._next)
            self._next = at + 1.0 / self._options.rate
        while (wait := at - time.monotonic()) > 0:
            time.sleep(wait)

    def _rest(self, seconds: float) -> None:
        """Let nobody ask for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def _base(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{address!r} is no web address; write it like {Tmdb.API}")
    return address.rstrip("/")


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise _FailedError("the answer is not JSON") from None
    if not isinstance(value, dict):
        raise _FailedError("the answer is not a JSON object")
    return value


def _picture(body: bytes) -> bytes:
    from mmgcs.preprocess.decode import decode_poster

    try:
        decode_poster(body)
    except InputError:
        raise _FailedError("the answer is not a picture that can be read") from None
    return body


def _folded(title: Any) -> str | None:
    """A title without case, marks and spaces; None where nothing is left."""
    return "".join(letter for letter in str(title or "").casefold() if letter.isalnum()) or None
