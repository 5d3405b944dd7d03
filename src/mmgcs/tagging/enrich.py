"""Look up missing plots and posters at The Movie Database (TMDB), by id and with the user's key. Off by default."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from anyio.from_thread import start_blocking_portal
from platformdirs import user_cache_path

from mmgcs.errors import InputError, MmgcsError, UsageError
from mmgcs.film import Film
from mmgcs.http import TEMPORARY, FetchError, WebClient, WebOptions
from mmgcs.preprocess import decode_poster

API = "https://api.themoviedb.org/3"
IMAGES = "https://image.tmdb.org/t/p/w342"
MAX_AGE = {200: 180 * 86_400.0, 404: 7 * 86_400.0}
"""How long responses are cached, in seconds, by HTTP status."""
_IMDB = re.compile(r"tt\d{5,10}")
_POSTER = re.compile(r"/[\w.-]+")

T = TypeVar("T")


def enricher(name: str, **options: Any) -> Tmdb:
    """Open a look-up service by name; see `Tmdb` for the options.

    Raises:
        UsageError: the service is unknown, or there is no key.
    """
    if name != "tmdb":
        raise UsageError(f"there is no look-up service {name!r}; known: tmdb")
    return Tmdb(**options)


class AnswerCache:
    """A cache of HTTP responses by address, in an SQLite file that several processes may share."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it. Raises MmgcsError if it cannot be used."""
        self.path = path
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
            columns = "address text primary key, status integer, body blob, fetched real"
            self._connection.execute(f"create table if not exists answers ({columns})")

    def get(self, address: str) -> tuple[int, bytes] | None:
        """Return the cached status and body, or None if there is none or it is too old."""
        query = "select status, body, fetched from answers where address = ?"
        with self._explained():
            row = self._connection.execute(query, (address,)).fetchone()
        return None if row is None or time.time() - row[2] > MAX_AGE.get(row[0], 0.0) else (row[0], bytes(row[1]))

    def put(self, address: str, status: int, body: bytes) -> None:
        """Cache a response."""
        values = (address, status, body, time.time())
        with self._explained():
            self._connection.execute("insert or replace into answers values (?, ?, ?, ?)", values)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise MmgcsError(f"the cache {self.path} cannot be used ({error}); remove it or name another") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class Tmdb:
    """The Movie Database. Films are found by `tmdb_id`, by an IMDb id, or by a numeric `id` if the titles match.

    Responses are cached for as long as TMDB's terms allow. If a look-up fails, the film gets a warning. Close it after
    use.
    """

    def __init__(self, cache: Path | None = None, **web: Any) -> None:
        """Prepare to look films up, with the key in `$TMDB_API_KEY`, at TMDB or its mirror in `$TMDB_API_URL`.

        Args:
            cache: an SQLite file of responses; by default in the user's cache folder.
            web: fields of `WebOptions`.

        Raises:
            UsageError: there is no key.
            MmgcsError: the cache cannot be used.
        """
        self._key = os.environ.get("TMDB_API_KEY", "").strip()
        if not self._key:
            raise UsageError("--enrich tmdb needs your key; set TMDB_API_KEY in the environment")
        self._api = (os.environ.get("TMDB_API_URL") or API).rstrip("/")
        self._images = (os.environ.get("TMDB_IMAGES_URL") or IMAGES).rstrip("/")
        self._cache = AnswerCache(cache or user_cache_path("mmgcs", appauthor=False) / "tmdb.sqlite")
        self._failures = 0
        # No redirects, which could leak the key; private addresses, because the user may need a proxy to reach TMDB.
        defaults: dict[str, Any] = {"concurrency": 8, "rate": 20.0, "timeout": 15.0}
        options = WebOptions(**{**defaults, "max_redirects": 0, "allow_private": True, **web})
        self._exit = contextlib.ExitStack()
        self._exit.callback(self._cache.close)
        # The event loop runs in its own thread, so this works from any thread and in notebooks.
        self._portal = self._exit.enter_context(start_blocking_portal())
        self._client = self._exit.enter_context(self._portal.wrap_async_context_manager(WebClient(options)))

    def __call__(self, films: list[Film]) -> list[Film]:
        """Return the films with missing plots and posters filled in, if TMDB has them.

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
        what = "the film"
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
        """Return TMDB's record of a film; None if there is none, or if the film has no usable id."""
        columns = {str(name).strip().casefold(): str(value).strip() for name, value in film.record.items() if value}
        tmdb = columns.get("tmdb_id", "").removesuffix(".0")
        imdb = next((name for name in (columns.get("imdb_id", ""), film.id) if _IMDB.fullmatch(name)), None)
        if tmdb.isdecimal():
            return await self._json(f"/movie/{int(tmdb)}?language=en-US")
        if imdb is not None:
            answer = await self._json(f"/find/{imdb}?external_source=imdb_id&language=en-US") or {}
            found = answer.get("movie_results")
            return found[0] if isinstance(found, list) and found and isinstance(found[0], dict) else None
        if film.id.isdecimal() and film.title is not None:
            # A bare number may be any catalogue's id, and another film's plot would be worse than none.
            movie = await self._json(f"/movie/{int(film.id)}?language=en-US") or {}
            titles = {_folded(movie.get(name)) for name in ("title", "original_title")}
            return movie if _folded(film.title) in titles else None
        return None

    async def _json(self, path: str) -> dict[str, Any] | None:
        return await self._get(f"{self._api}{path}", _object, keyed=True)

    async def _get(self, address: str, parse: Callable[[bytes], T], *, keyed: bool = False) -> T | None:
        """Return the parsed response, from the cache or the service; None if it is a 404."""
        cached = self._cache.get(address)
        status, body = cached or await self._fetch(address, keyed)
        # Parsed before it is cached, because a Wi-Fi sign-in page answers every request with 200.
        value = parse(body) if status == 200 else None
        if cached is None:
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
                if self._failures >= 10:  # in a row: the service is down
                    raise MmgcsError(f"TMDB does not answer ({error}); run the same command again later") from None
            raise
        self._failures = 0
        return 200, body


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise FetchError("the response is not a JSON object")
    return value


def _poster(body: bytes) -> bytes:
    try:
        decode_poster(body)
    except InputError:
        raise FetchError("the response is not an image that can be read") from None
    return body


def _folded(title: Any) -> str | None:
    """Return a title in lower case with only letters and digits; None if nothing is left."""
    return "".join(letter for letter in str(title or "").casefold() if letter.isalnum()) or None
