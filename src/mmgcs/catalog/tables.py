"""Tables of films: rows of any supported format become films, in order, in chunks, and none is lost.

>>> from mmgcs.catalog import read_films
>>> chunks = read_films(path, posters=folder)  # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmgcs.catalog.readers import READERS, Opened
from mmgcs.catalog.seen import SeenIds
from mmgcs.catalog.source import Row, check_readable, spooled_stdin, table_format
from mmgcs.errors import InputError, UsageError
from mmgcs.film import Film
from mmgcs.genres import parse_genres

CHUNK = 512
"""Films a chunk: enough to sort by length within, few enough that their decoded posters take 60 MB."""

STDIN = Path("-")

ALIASES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "imdb_id"),
    "title": ("title",),
    "year": ("year",),
    "plot": ("plot", "overview"),
    "genres": ("genres",),
    "poster": ("poster",),
    "split": ("split",),
    "labels": ("labels",),
}
"""A film's field to the columns that it is read from; the first one there is taken. Case is ignored."""

_YEAR = re.compile(r"^\s*((?:18|19|20|21)\d\d)(?:\.0+|-\d\d.*|/\d.*)?\s*$")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")


class FilmTable:
    """A table of films that was opened: its header is read and checked, its rows are not.

    Attributes:
        path: the file.
        columns: its columns; for JSONL those of its first thousand lines.
        posters: the folder that posters are relative to and may not leave.
    """

    def __init__(
        self, path: Path, *, posters: Path | None = None, delimiter: str | None = None, suffix: str | None = None
    ) -> None:
        """Open a table.

        Args:
            path: the file; its extension, or the one before `.gz`, says the format.
            posters: the folder of posters; without it, the table's own folder.
            delimiter: what separates the fields of a CSV where it is not a comma.
            suffix: the format where the file's name does not say it.

        Raises:
            UsageError: the file is missing, empty, of an unknown format, has another delimiter, or has neither a plot
                nor a poster column.
        """
        check_readable(path)
        if posters is not None and not posters.is_dir():
            raise UsageError(f"the posters folder {posters} does not exist; check --posters")
        self.path = path
        self.posters = posters if posters is not None else path.parent
        self._root = os.path.realpath(self.posters)
        self._opened: Opened = READERS[suffix or table_format(path)[0]](path, delimiter)
        self.columns = self._opened.columns
        self._sources = sources_of(self.columns)
        if "plot" not in self._sources and "poster" not in self._sources:
            raise UsageError(
                f"{path} has no column plot (or overview) or poster; its columns are {', '.join(self.columns)[:300]}"
            )

    def chunks(self, size: int = CHUNK) -> Iterator[list[Film]]:
        """The films in order, `size` at a time. Can be taken once; reads no further than it is asked to."""
        seen = SeenIds()
        films: list[Film] = []
        for number, row in enumerate(self._opened.rows, 1):
            films.append(self._film(row, number))
            if len(films) == size:
                yield _with_duplicates(films, seen)
                films = []
        if films:
            yield _with_duplicates(films, seen)

    def _film(self, row: Row, number: int) -> Film:
        values = row.values
        # JSON lines may each have other keys; a column that the first had not is found here.
        sources = self._sources if values.keys() <= self._known else sources_of(tuple(values))
        taken = {field: values.get(column) for field, column in sources.items()}
        used = set(sources.values())
        extra = {column: value for column, value in values.items() if column not in used and column}
        warnings = list(row.warnings)
        problem = row.problem

        texts = {name: _text(taken.get(name), name, warnings) for name in ("title", "plot", "split", "labels")}
        year = _year(taken.get("year"))
        if year is None and not _blank(taken.get("year")):
            warnings.append(f"the year {str(taken['year'])[:40]!r} is not a year; it was left aside")
        poster: Path | bytes | None = None
        given = taken.get("poster")
        if isinstance(given, bytes | bytearray):
            poster = bytes(given) or None
        elif not _blank(given):
            try:
                poster = self._poster(str(given).strip())
            except InputError as error:
                problem = problem or str(error)
        for name in ("year", "poster", *texts):
            # What the film's own fields cannot give back is kept for the output as it came.
            raw, read = taken.get(name), year if name == "year" else texts.get(name)
            if name in sources and not isinstance(raw, bytes | bytearray) and not _blank(raw) and raw != read:
                if name == "year" and str(raw).strip() == str(read):
                    continue
                extra[sources[name]] = raw
        identity = taken.get("id") if "id" in sources else str(number)
        return Film(
            id="" if _blank(identity) else str(identity).strip(),
            title=texts["title"],
            year=year,
            plot=texts["plot"],
            poster=poster,
            genres=_genres(taken.get("genres")) or None,
            split=texts["split"],
            labels=texts["labels"],
            extra=extra,
            problem=problem,
            warnings=tuple(warnings),
        )

    @functools.cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.columns)

    def _poster(self, relative: str) -> Path:
        outside = f"the poster {relative[:200]!r} leads out of the posters folder; give a path inside it"
        if "\x00" in relative or _DRIVE.match(relative):
            raise InputError(outside)
        try:
            real = os.path.realpath(os.path.join(self._root, relative))  # noqa: PTH118  a Path would cost as much again
        except (OSError, ValueError):
            raise InputError(outside) from None
        if not real.startswith(self._root.rstrip(os.sep) + os.sep):
            raise InputError(outside)
        return self.posters / relative


def sources_of(columns: tuple[str, ...]) -> dict[str, str]:
    """Which column each field of a film is read from, of `columns`; fields without one are left out."""
    folded = {column.strip().casefold(): column for column in reversed(columns)}
    found = {}
    for field, names in ALIASES.items():
        column = next((folded[name] for name in names if name in folded), None)
        if column is not None:
            found[field] = column
    return found


@contextlib.contextmanager
def open_films(
    path: Path, *, posters: Path | None = None, delimiter: str | None = None, stdin_format: str = ".csv"
) -> Iterator[FilmTable]:
    """A FilmTable of the file `path`, or of standard input where it is `-`. Raises as FilmTable does."""
    if path == STDIN:
        with spooled_stdin(stdin_format) as spooled:
            yield FilmTable(spooled, posters=posters or Path.cwd(), delimiter=delimiter)
    else:
        yield FilmTable(path, posters=posters, delimiter=delimiter)


def read_films(
    path: Path, posters: Path | None = None, *, chunk: int = CHUNK, delimiter: str | None = None
) -> Iterator[list[Film]]:
    """The films of a table in order, `chunk` at a time, in memory that does not grow with the table.

    A row that cannot be read becomes a film with a `problem`. Raises as FilmTable does, when it is called.
    """
    return FilmTable(path, posters=posters, delimiter=delimiter).chunks(chunk)


def _with_duplicates(films: list[Film], seen: SeenIds) -> list[Film]:
    again = seen.add([film.id for film in films])
    if not any(again):
        return films
    from dataclasses import replace

    return [
        replace(film, warnings=(*film.warnings, f"the id {film.id[:80]!r} occurs earlier in the table"))
        if was
        else film
        for film, was in zip(films, again, strict=True)
    ]


def _blank(value: Any) -> bool:
    return (
        value is None
        or (isinstance(value, str) and not value.strip())
        or (isinstance(value, float) and math.isnan(value))
    )


def _text(value: Any, name: str, warnings: list[str]) -> str | None:
    if isinstance(value, str):
        return value if value.strip() else None
    if _blank(value):
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    warnings.append(f"the {name} is {_kind(value)}, not text; it was left aside")
    return None


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", bool: "true or false", bytes: "bytes"}.get(type(value), "something else")


def _year(value: Any) -> int | None:
    if isinstance(value, bool) or _blank(value):
        return None
    match = _YEAR.match(str(value)[:40])
    return int(match[1]) if match else None


def _genres(value: Any) -> tuple[str, ...]:
    return _genres_of_text(value) if isinstance(value, str) else parse_genres(value)


@functools.lru_cache(maxsize=4096)
def _genres_of_text(value: str) -> tuple[str, ...]:
    # A table has few different combinations of genres and many films.
    return parse_genres(value)
