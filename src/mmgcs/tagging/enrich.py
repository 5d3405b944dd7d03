"""Look up missing plots and posters by the films' ids, at a service the user has a key for.

Off unless asked for. A new service is a class registered under its name.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode, urlsplit

from anyio.from_thread import start_blocking_portal

from mmgcs.errors import InputError, MmgcsError, UsageError
from mmgcs.film import Film
from mmgcs.http import TEMPORARY, FetchError, WebClient, WebOptions
from mmgcs.preprocess import decode_poster
from mmgcs.registry import Registry
from mmgcs.tagging.answers import AnswerCache, default_cache

DAY = 86_400.0
GIVE_UP = 10
"""Failed look-ups in a row after which the service counts as down and the run stops."""
_IMDB = re.compile(r"tt\d{5,10}")
_POSTER = re.compile(r"/[\w.-]+")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LookUpOptions(WebOptions):
    """How a service is asked.

    Attributes:
        key: the user's key.
        api: the base address of the service; None for its usual one.
        images: the base address of its posters; None for its usual one.
        language: the language of plots.
        cache: an SQLite file of answers; None for the user's own.
    """

    concurrency: int = 8
    rate: float = 20.0
    timeout: float = 15.0
    max_redirects: int = 0  # the key must not travel
    allow_private: bool = True  # the addresses are the user's own, and a proxy may be needed to reach them
    key: str = field(default="", repr=False)
    api: str | None = None
    images: str | None = None
    language: str = "en-US"
    cache: Path | None = None


class Enricher(Protocol):
    """Fills in what films lack. Close it after use."""

    def __call__(self, films: list[Film]) -> list[Film]:
        """Return the films with what they lacked, in the same order."""

    def close(self) -> None:
        """Stop its threads and close its files."""


ENRICHERS: Registry[Callable[[LookUpOptions], Enricher]] = Registry("service to look films up at")


def enricher(name: str, *, key: str | None = None, **options: Any) -> Enricher:
    """Return the enricher of a name. Missing settings come from the environment: `$TMDB_API_KEY` and so on.

    Args:
        name: a name in `ENRICHERS`.
        key: the user's key.
        options: further fields of `LookUpOptions`; None leaves the default.

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
    return make(LookUpOptions(key=key.strip(), **{name: value for name, value in options.items() if value is not None}))


@ENRICHERS.register("tmdb")
class Tmdb:
    """The Movie Database. Films are found by `tmdb_id`, by an IMDb id, or by a numeric `id` if the titles agree.

    Answers are cached for as long as its terms allow. A film that cannot be looked up gets a warning.

    Raises:
        UsageError: a base address is not valid, or the cache cannot be used.
    """

    API = "https://api.themoviedb.org/3"
    IMAGES = "https://image.tmdb.org/t/p/w342"
    MAX_AGE = {200: 180 * DAY, 404: 7 * DAY}  # noqa: RUF012  a constant

    def __init__(self, options: LookUpOptions) -> None:
        self._key, self._language = options.key, options.language
        self._api = _base(options.api or self.API)
        self._images = _base(options.images or self.IMAGES)
        self._cache = AnswerCache(options.cache or default_cache("tmdb"))
        self._failures = 0
        self._exit = contextlib.ExitStack()
        self._exit.callback(self._cache.close)
        # The event loop has a thread of its own, so that this works from any thread, and in notebooks.
        self._portal = self._exit.enter_context(start_blocking_portal())
        self._client = self._exit.enter_context(self._portal.wrap_async_context_manager(WebClient(options)))

    def __call__(self, films: list[Film]) -> list[Film]:
        """Return the films with the plots and posters that they lacked, if TMDB has them.

        Raises:
            UsageError: TMDB refuses the key.
            MmgcsError: TMDB does not answer.
        """
        return self._portal.call(self._complete_all, films)

    def close(self) -> None:
        """Close the connections, the event loop's thread and the cache."""
        self._exit.close()

    async def _complete_all(self, films: list[Film]) -> list[Film]:
        tasks = [asyncio.create_task(self._complete(film)) for film in films]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _complete(self, film: Film) -> Film:
        if film.problem is not None or (film.plot is not None and film.poster is not None):
            return film
        plot, poster, notes = film.plot, film.poster, list(film.warnings)
        what = "it"
        try:
            movie = await self._movie(film) or {}
            overview, path = movie.get("overview"), movie.get("poster_path")
            if plot is None and isinstance(overview, str) and overview.strip():
                plot = overview
                notes.append("the plot was looked up at TMDB")
            if poster is None and isinstance(path, str) and _POSTER.fullmatch(path):
                what = "the poster"
                poster = await self._get(f"{self._images}{path}", _poster)
                if poster is not None:
                    notes.append("the poster was looked up at TMDB")
        except FetchError as error:
            notes.append(f"{what} could not be looked up at TMDB: {error}")
        return replace(film, plot=plot, poster=poster, warnings=tuple(notes))

    async def _movie(self, film: Film) -> dict[str, Any] | None:
        """Return TMDB's record of a film; None if it has none, or if the film has no id that TMDB knows."""
        columns = {str(name).strip().casefold(): str(value).strip() for name, value in film.record.items() if value}
        tmdb = columns.get("tmdb_id", "").removesuffix(".0")
        imdb = next((name for name in (columns.get("imdb_id", ""), film.id) if _IMDB.fullmatch(name)), None)
        language = urlencode({"language": self._language})
        if tmdb.isdecimal():
            return await self._json(f"/movie/{int(tmdb)}?{language}")
        if imdb is not None:
            answer = await self._json(f"/find/{imdb}?external_source=imdb_id&{language}") or {}
            found = answer.get("movie_results")
            return found[0] if isinstance(found, list) and found and isinstance(found[0], dict) else None
        if film.id.isdecimal() and film.title is not None:
            # A bare number may be anyone's id; another film's plot would be worse than none.
            movie = await self._json(f"/movie/{int(film.id)}?{language}") or {}
            titles = {_folded(movie.get(name)) for name in ("title", "original_title")}
            return movie if _folded(film.title) in titles else None
        return None

    async def _json(self, path: str) -> dict[str, Any] | None:
        return await self._get(f"{self._api}{path}", _object, keyed=True)

    async def _get(self, address: str, parse: Callable[[bytes], T], *, keyed: bool = False) -> T | None:
        """Return the parsed body at an address, from the cache or the service; None if there is nothing."""
        cached = self._cache.get(address, self.MAX_AGE)
        if cached is not None:
            with contextlib.suppress(FetchError):  # one that cannot be parsed is fetched again
                return parse(cached[1]) if cached[0] == 200 else None
        status, body = await self._fetch(address, keyed)
        # Parsed before it is cached: a network's sign-in page answers every address with 200.
        value = parse(body) if status == 200 else None
        self._cache.put(address, status, body)
        return value

    async def _fetch(self, address: str, keyed: bool) -> tuple[int, bytes]:
        headers = {"Accept": "application/json" if keyed else "image/*"}
        if keyed and self._key.startswith("ey"):  # a read access token; older keys are part of the address
            headers["Authorization"] = f"Bearer {self._key}"
        elif keyed:
            address = f"{address}&{urlencode({'api_key': self._key})}"
        try:
            body = await self._client.get(address, headers)
        except FetchError as error:
            if error.status == 404:
                self._failures = 0
                return 404, b""
            if error.status in (401, 403) and keyed:
                raise UsageError(f"TMDB refuses the key (HTTP {error.status}); check TMDB_API_KEY") from None
            if error.status == 0 or error.status in TEMPORARY:
                self._failures += 1
                if self._failures >= GIVE_UP:
                    raise MmgcsError(f"TMDB does not answer ({error}); run the same command again later") from None
            raise
        self._failures = 0
        return 200, body


def _base(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{address!r} is not a web address; write it like {Tmdb.API}")
    return address.rstrip("/")


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise FetchError("the answer is not JSON") from None
    if not isinstance(value, dict):
        raise FetchError("the answer is not a JSON object")
    return value


def _poster(body: bytes) -> bytes:
    try:
        decode_poster(body)
    except InputError:
        raise FetchError("the answer is not a picture that can be read") from None
    return body


def _folded(title: Any) -> str | None:
    """Return a title without case, marks and spaces; None if nothing is left."""
    return "".join(letter for letter in str(title or "").casefold() if letter.isalnum()) or None
