"""A row of any source, a file's or a database's, as a film."""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmgcs.errors import InputError
from mmgcs.film import Film
from mmgcs.genres import parse_genres
from mmgcs.tables.source import Row

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


class RowReader:
    """Turns rows into films.

    Attributes:
        sources: film field to the column that it is read from.
        posters: the folder that posters are relative to and may not leave.
    """

    def __init__(self, columns: tuple[str, ...], posters: Path) -> None:
        self.sources = sources_of(columns)
        self.posters = posters
        self._known = frozenset(columns)
        self._root = os.path.realpath(posters)

    def film(self, row: Row, number: int) -> Film:
        """The film of a row; one that cannot be used gets a `problem`. `number` is its id where there is no column."""
        values = row.values
        # JSON lines may each have other keys; a column that the first had not is found here.
        sources = self.sources if values.keys() <= self._known else sources_of(tuple(values))
        taken = {field: values.get(column) for field, column in sources.items()}
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
            record=values,
            problem=problem,
            warnings=tuple(warnings),
            place=row.place or f"row {number}",
        )

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


def sources_of(columns: Sequence[str], aliases: Mapping[str, Sequence[str]] = ALIASES) -> dict[str, str]:
    """Which column each field of a film is read from, of `columns`; fields without one are left out."""
    folded = {column.strip().casefold(): column for column in reversed(columns)}
    found = {}
    for field, names in aliases.items():
        column = next((folded[name] for name in names if name in folded), None)
        if column is not None:
            found[field] = column
    return found


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
