"""Downloading posters: many at once, within each host's limits, and only pictures that decode are kept."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
import polars as pl
from PIL import Image

from mmgcs.datasets.addresses import PrivateAddressError, public_socket
from mmgcs.datasets.poster_files import PICTURES, poster_files, poster_stem
from mmgcs.errors import InputError, MmgcsError, UsageError
from mmgcs.files import alone, atomic_writer, remove_parts
from mmgcs.http import retry_after
from mmgcs.machine import cores
from mmgcs.preprocess.decode import decode_poster

TMDB_BASE = "https://image.tmdb.org/t/p/w342"
"""Where TMDB serves `poster_path`: 342 pixels wide, half as much again as the poster models read."""
FAILED = "failed.jsonl"
MAX_REDIRECTS = 5
_SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif"}
_BAD_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class PosterOptions:
    """How posters are fetched.

    Attributes:
        base_url: what is put before a `poster_path`.
        concurrency: downloads under way at once; TMDB allows twenty connections.
        rate: requests a second to one host; 0 for no limit.
        retries: further tries after a failure that may pass (time-outs, 429, 5xx, broken connections).
        backoff: seconds before the first further try, doubled for each one after it, with jitter.
        max_wait: the longest wait in seconds, also where a server asks for more.
        connect_timeout: seconds to connect.
        timeout: seconds for a whole download, so that a server that drips bytes is given up.
        max_bytes: larger answers are refused.
        allow_private: whether private and local addresses may be reached.
        retry_failed: fetch what failed before, and nothing else.
    """

    base_url: str = TMDB_BASE
    concurrency: int = 20
    rate: float = 200.0
    retries: int = 4
    backoff: float = 0.5
    max_wait: float = 60.0
    connect_timeout: float = 10.0
    timeout: float = 30.0
    max_bytes: int = 20 * 2**20
    allow_private: bool = False
    retry_failed: bool = False

    def check(self) -> None:
        """Refuse values that cannot work, by the option's name. Raises UsageError."""
        if urlsplit(self.base_url).scheme not in ("http", "https"):
            raise UsageError(f"--base-url {self.base_url!r} is no web address; write it like {TMDB_BASE}")
        for name in ("concurrency", "connect_timeout", "timeout", "max_bytes"):
            if getattr(self, name) <= 0:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)} must be greater than 0")
        for name in ("rate", "retries", "backoff", "max_wait"):
            if getattr(self, name) < 0:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)} must not be negative")


@dataclass(slots=True)
class PosterResult:
    """What became of the posters.

    Attributes:
        downloaded: fetched and kept in this run.
        already: found in the folder.
        without: films that give no address.
        left: failed in an earlier run and not tried again.
        failed: records of what failed in this run: `id`, `url`, `reason`, `tries`.
    """

    downloaded: int = 0
    already: int = 0
    without: int = 0
    left: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)

    def reasons(self) -> dict[str, int]:
        """How many failed for each reason, the commonest first."""
        return dict(Counter(record["reason"] for record in self.failed).most_common())


class _TryFailedError(Exception):
    def __init__(self, reason: str, *, again: bool = False, after: float | None = None) -> None:
        super().__init__(reason)
        self.again, self.after = again, after


def poster_urls(films: pl.DataFrame, base_url: str) -> Iterator[tuple[str, str | None]]:
    """The id and poster address of each film: `poster_url`, or `poster_path` after `base_url`; None without either."""
    columns = [name for name in ("id", "poster_url", "poster_path") if name in films.columns]
    for row in films.select(columns).iter_rows(named=True):
        url, path = row.get("poster_url"), row.get("poster_path")
        if url and url.strip():
            yield row["id"], url.strip()
        elif path and path.strip("/ "):
            yield row["id"], f"{base_url.rstrip('/')}/{path.strip().lstrip('/')}"
        else:
            yield row["id"], None


def download_posters(
    films: pl.DataFrame,
    folder: Path,
    options: PosterOptions | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PosterResult:
    """Fetch the posters of films into a folder, each named for its film's id; what is there is not fetched again.

    What failed stands in `failed.jsonl` in the folder, and is left alone by the next run unless `retry_failed`.

    Args:
        films: a table with `id`, and `poster_url` or `poster_path`.
        folder: where the posters go.
        options: how they are fetched.
        progress: called with how many are done, and of how many.

    Raises:
        UsageError: an option is wrong, the table gives no addresses, or another process fills the folder.
        MmgcsError: the folder cannot be written.
    """
    options = options or PosterOptions()
    options.check()
    if films.height and not any(url for _, url in poster_urls(films, options.base_url)):
        raise UsageError("no film has an address; the table needs a column poster_url or poster_path that names them")
    try:
        with alone(folder):
            for suffix in PICTURES:
                remove_parts(folder, f"*{suffix}")
            return _fill(films, folder, options, progress)
    except OSError as error:
        raise MmgcsError(
            f"{folder} cannot be written ({error.strerror or error}); free space or choose another"
        ) from error


def _fill(
    films: pl.DataFrame, folder: Path, options: PosterOptions, progress: Callable[[int, int], None]
) -> PosterResult:
    result = PosterResult()
    before = _read_failed(folder / FAILED)
    there = poster_files(folder)
    todo: dict[str, str] = {}
    for film, url in poster_urls(films, options.base_url):
        failed_before = film in before
        if url is None:
            result.without += 1
        elif poster_stem(film) in there:
            result.already += 1
            before.pop(film, None)
        elif failed_before and not options.retry_failed:
            result.left += 1
        elif failed_before or not options.retry_failed:
            todo[film] = url
    try:
        asyncio.run(_Downloader(folder, options, result, progress).run(todo))
    finally:
        # Also when stopped half-way: what failed so far is known to the next run.
        now = {record["id"]: record for record in result.failed}
        there = poster_files(folder)
        gone = {film for film in todo if film not in now and film in before and poster_stem(film) in there}
        _write_failed(folder / FAILED, {**{k: v for k, v in before.items() if k not in gone}, **now}.values())
    return result


def _read_failed(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return {record["id"]: record for record in records}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no list of failed posters ({error}); remove it to try them all") from None


def _write_failed(path: Path, records: Iterable[dict[str, Any]]) -> None:
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    if lines:
        with atomic_writer(path) as handle:
            handle.writelines(lines)
    else:
        path.unlink(missing_ok=True)


class _Pace:
    """The pace of requests to one host: so many a second, and none while it asks to be left alone."""

    def __init__(self, rate: float) -> None:
        self._interval = 1.0 / rate if rate else 0.0
        self._next = 0.0
        self._quiet_until = 0.0

    async def turn(self) -> None:
        """Wait for this request's turn."""
        at = max(time.monotonic(), self._next)
        self._next = at + self._interval
        while (wait := max(at, self._quiet_until) - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    def rest(self, seconds: float) -> None:
        """Send nothing for so long."""
        self._quiet_until = max(self._quiet_until, time.monotonic() + seconds)


class _Downloader:
    def __init__(
        self, folder: Path, options: PosterOptions, result: PosterResult, progress: Callable[[int, int], None]
    ) -> None:
        self._folder, self._options, self._result, self._progress = folder, options, result, progress
        self._paces: dict[str, _Pace] = {}
        self._pool = ThreadPoolExecutor(max_workers=min(4, cores()))
        self._done = 0

    async def run(self, todo: dict[str, str]) -> None:
        options = self._options
        connector = aiohttp.TCPConnector(
            limit=options.concurrency,
            socket_factory=None if options.allow_private else public_socket,
        )
        session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=options.timeout, sock_connect=options.connect_timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "mmgcs", "Accept": "image/*", "Accept-Encoding": "identity"},
            auto_decompress=False,
        )
        queue = iter(todo.items())
        self._progress(0, len(todo))

        async def work() -> None:
            for film, url in queue:  # one iterator for all workers: each takes the next
                await self._film(session, film, url)
                self._done += 1
                self._progress(self._done, len(todo))

        async with session:
            workers = [asyncio.create_task(work()) for _ in range(min(options.concurrency, len(todo)))]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
                self._pool.shutdown()

    async def _film(self, session: aiohttp.ClientSession, film: str, url: str) -> None:
        for attempt in range(self._options.retries + 1):
            try:
                data = await self._fetch(session, url)
                await asyncio.get_running_loop().run_in_executor(self._pool, self._keep, film, data)
            except _TryFailedError as failure:
                if not failure.again or attempt == self._options.retries:
                    self._result.failed.append({"id": film, "url": url, "reason": str(failure), "tries": attempt + 1})
                    return
                # Full jitter: many films that fail together do not come back together.
                wait = min(self._options.max_wait, self._options.backoff * 2**attempt)
                await asyncio.sleep(wait * random.uniform(0.5, 1.0) if failure.after is None else failure.after)  # noqa: S311
            else:
                self._result.downloaded += 1
                return

    def _keep(self, film: str, data: bytes) -> None:
        """Decode, then write under the film's name; in a thread, as both take time."""
        try:
            decode_poster(data, at_least=(64, 96))
            with Image.open(io.BytesIO(data)) as picture:
                kind = str(picture.format)
        except InputError as error:
            looks = data[:512].lstrip().lower()
            if looks.startswith((b"<!doctype", b"<html")):
                raise _TryFailedError("a web page came instead of a picture") from None
            raise _TryFailedError(str(error).split(";", 1)[0].removeprefix("the poster ")) from None
        suffix = _SUFFIXES.get(kind, f".{kind.lower()}")
        try:
            with atomic_writer(self._folder / f"{poster_stem(film)}{suffix}", "wb") as handle:
                handle.write(data)
        except OSError as error:
            if error.errno not in _BAD_NAME:
                raise
            raise _TryFailedError(f"its name cannot be a file's here ({error.strerror})") from None

    async def _fetch(self, session: aiohttp.ClientSession, url: str) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            parts = _checked(url)
            pace = self._paces.setdefault(parts, _Pace(self._options.rate))
            await pace.turn()
            try:
                async with session.get(url, allow_redirects=False) as response:
                    if response.status in (301, 302, 303, 307, 308):
                        target = urljoin(url, response.headers.get("Location", ""))
                        if url.startswith("https:") and not target.startswith("https:"):
                            raise _TryFailedError("it redirects from https to an address that is not")
                        url = target
                        continue
                    return await self._body(response, pace)
            except _TryFailedError:
                raise
            except PrivateAddressError as error:
                raise _TryFailedError(f"refused: {str(error).split(';', 1)[0]}") from None
            except TimeoutError:
                raise _TryFailedError(f"no whole answer within {self._options.timeout:g} s", again=True) from None
            except aiohttp.ClientConnectorCertificateError:
                raise _TryFailedError("the server's certificate is not valid") from None
            except aiohttp.ClientConnectorDNSError:
                raise _TryFailedError("the host's name is not known", again=True) from None
            except aiohttp.ClientConnectorError:
                raise _TryFailedError("no connection", again=True) from None
            except aiohttp.InvalidURL:
                raise _TryFailedError("the address is not valid") from None
            except aiohttp.ClientPayloadError:
                raise _TryFailedError("the answer was cut short", again=True) from None
            except (aiohttp.ClientError, ValueError) as error:
                raise _TryFailedError(f"the connection broke ({type(error).__name__})", again=True) from None
        raise _TryFailedError(f"more than {MAX_REDIRECTS} redirects")

    async def _body(self, response: aiohttp.ClientResponse, pace: _Pace) -> bytes:
        options = self._options
        if response.status in _TEMPORARY:
            after = retry_after(response.headers.get("Retry-After"))
            if after is not None and after > options.max_wait:
                raise _TryFailedError(f"HTTP {response.status}, and the server asks to wait longer than --max-wait")
            if after is not None:
                pace.rest(after)
            raise _TryFailedError(f"HTTP {response.status}", again=True, after=after)
        if response.status != 200:
            raise _TryFailedError(f"HTTP {response.status}")
        too_large = _TryFailedError(f"larger than {options.max_bytes:,} bytes")
        if (response.content_length or 0) > options.max_bytes:
            raise too_large
        data = bytearray()
        async for chunk in response.content.iter_chunked(2**16):
            data += chunk
            if len(data) > options.max_bytes:
                raise too_large
        return bytes(data)


def _checked(url: str) -> str:
    """The scheme and host of an address that can be fetched."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        raise _TryFailedError("the address is not valid") from None
    if parts.scheme not in ("http", "https") or not host:
        raise _TryFailedError("the address is not one of the web")
    return f"{parts.scheme}://{parts.netloc}"
