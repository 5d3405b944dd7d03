"""Download the posters of a table of films, many at once, and find their files by the films' ids."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
from anyio.from_thread import start_blocking_portal
from PIL import Image

from mmgcs.datasets.sources import PICTURES, read_raw_films
from mmgcs.errors import InputError, MmgcsError, UsageError
from mmgcs.files import atomic_writer, lock_folder, remove_parts
from mmgcs.http import FetchError, WebClient, WebOptions
from mmgcs.preprocess import decode_poster
from mmgcs.tables import table_columns

TMDB_BASE = "https://image.tmdb.org/t/p/w342"
"""Where TMDB serves a `poster_path` 342 pixels wide, 1.5 times what the poster models read."""
FAILED = "failed.jsonl"
MAX_STEM = 200
"""The longest stem of a poster's file name in bytes. File systems allow 255, and temporary files need some of them."""


@dataclass(frozen=True, slots=True)
class PosterOptions(WebOptions):
    """How posters are downloaded.

    Attributes:
        base_url: the prefix of each `poster_path`.
        retry_failed: True to only download posters that failed before.
    """

    base_url: str = TMDB_BASE
    retry_failed: bool = False


@dataclass(slots=True)
class PosterResult:
    """The outcome of a download.

    Attributes:
        downloaded: posters downloaded in this run.
        already: posters that were already in the folder.
        without: films without a poster address.
        left: films that failed in an earlier run and were not tried again.
        failed: a record for each failure in this run: `id`, `url`, `reason`, `tries`.
    """

    downloaded: int = 0
    already: int = 0
    without: int = 0
    left: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)

    def reasons(self) -> dict[str, int]:
        """Return the number of failures for each reason, the most common first."""
        return dict(Counter(record["reason"] for record in self.failed).most_common())


def poster_stem(film: str | None) -> str:
    """Return a film's id as a safe file name without extension, "" if it has none; a long id is shortened."""
    film = film or ""
    stem = quote(film, safe=" ")
    stem = stem.replace(".", "%2E") if stem.startswith(".") else stem
    if len(stem) <= MAX_STEM:
        return stem
    # No escaped id contains "%-", so a shortened name is never the name of another film.
    return f"{stem[: MAX_STEM - 66]}%-{hashlib.sha256(film.encode()).hexdigest()}"


def poster_files(folder: Path) -> dict[str, str]:
    """Return the posters in a folder: `poster_stem` to file name."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    return {name.rpartition(".")[0]: name for name in names if name.lower().endswith(PICTURES)}


def with_posters(films: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Set the column `poster` to the name of each film's file in the folder; a film without one keeps its poster.

    If the table itself holds the pictures, all films keep them.
    """
    files = poster_files(folder)
    names = pl.Series("poster", [files.get(poster_stem(film)) for film in films["id"]], dtype=pl.String)
    own = films["poster"] if "poster" in films.columns else None
    if own is not None and own.dtype != pl.String:
        return films
    return films.with_columns(names if own is None else names.fill_null(own))


def is_with_posters(films: pl.DataFrame, path: Path) -> bool:
    """Return True if a file is the output of `with_posters` for these films, so that replacing it loses nothing."""
    try:
        if table_columns(path) != films.columns:
            return False
        old = read_raw_films(path, others=True).frame
    except MmgcsError:
        return False
    # CSV does not distinguish empty text from None.
    old, films = (frame.with_columns(pl.col(pl.String).replace("", None)) for frame in (old, films))
    if films["poster"].dtype != pl.String:
        return old.equals(films)
    posters = zip(old["poster"], films["poster"], films["id"], strict=False)
    return old.drop("poster").equals(films.drop("poster")) and all(
        name in (None, own) or name.rpartition(".")[0] == poster_stem(film) for name, own, film in posters
    )


def poster_urls(films: pl.DataFrame, base_url: str) -> Iterator[tuple[str | None, str | None]]:
    """Yield each film's id and poster address: `poster_url`, or `base_url` and `poster_path`, or None."""
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
    """Download the posters of films into a folder, each named after its film's id. Existing files are kept.

    Failures are recorded in the folder's `failed.jsonl`. The next run skips them unless `retry_failed` is set.

    Args:
        films: a table with `id`, and `poster_url` or `poster_path`.
        folder: where the posters go.
        options: how to download.
        progress: called with the number of posters done, and the total.

    Raises:
        UsageError: the table has no poster addresses, or another process is writing to the folder.
    """
    options = options or PosterOptions()
    found = [*poster_urls(films, options.base_url)]
    if found and not any(url for _, url in found):
        raise UsageError("no film has a poster address; the table needs a column poster_url or poster_path")
    with lock_folder(folder):
        for suffix in PICTURES:
            remove_parts(folder, f"*{suffix}")
        path, files = folder / FAILED, poster_files(folder)
        lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
        failed = {record["id"]: record for record in map(json.loads, filter(str.strip, lines)) if record["id"]}
        urls = {film: url for film, url in found if film and film.strip()}
        missing = {film: url for film, url in urls.items() if url is not None and poster_stem(film) not in files}
        todo = {film: url for film, url in missing.items() if (film in failed) == options.retry_failed}
        result = PosterResult(without=sum(url is None for url in urls.values()))
        result.already = len(urls) - result.without - len(missing)
        result.left = 0 if options.retry_failed else len(missing) - len(todo)
        for film, url in found:
            if url is not None and film not in urls:
                result.failed.append({"id": film, "url": url, "reason": "the film has no id", "tries": 0})
        try:
            # The event loop runs in its own thread, because a notebook's thread already has one.
            with start_blocking_portal() as portal:
                portal.call(_download_all, todo, folder, options, result, progress)
        finally:  # an interrupted run records its failures too
            files = poster_files(folder)
            failed |= {record["id"]: record for record in result.failed}
            records = [record for film, record in failed.items() if film not in urls or poster_stem(film) not in files]
            if records:
                with atomic_writer(path) as handle:
                    handle.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            else:
                path.unlink(missing_ok=True)
    return result


async def _download_all(
    todo: dict[str, str],
    folder: Path,
    options: PosterOptions,
    result: PosterResult,
    progress: Callable[[int, int], None],
) -> None:
    queue, done = iter(todo.items()), 0
    progress(0, len(todo))

    async def work() -> None:
        nonlocal done
        for film, url in queue:  # all workers share one iterator: each takes the next film
            try:
                data = await client.get(url, {"Accept": "image/*"})
                await asyncio.to_thread(_keep, folder, film, data)
                result.downloaded += 1
            except FetchError as error:
                result.failed.append({"id": film, "url": url, "reason": str(error), "tries": error.tries})
            done += 1
            progress(done, len(todo))

    async with WebClient(options) as client:
        workers = [asyncio.create_task(work()) for _ in range(min(options.concurrency, len(todo)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()


def _keep(folder: Path, film: str, data: bytes) -> None:
    """Write a poster under its film's name if it can be decoded. Raises FetchError otherwise."""
    try:
        decode_poster(data, at_least=(64, 96))
        with Image.open(io.BytesIO(data)) as image:
            kind = str(image.format).lower()
    except InputError as error:
        if data[:512].lstrip().lower().startswith((b"<!doctype", b"<html")):
            raise FetchError("the response is a web page, not an image") from None
        raise FetchError(str(error).split(";", 1)[0].removeprefix("the poster ")) from None
    with atomic_writer(folder / f"{poster_stem(film)}.{'jpg' if kind == 'jpeg' else kind}", "wb") as handle:
        handle.write(data)
