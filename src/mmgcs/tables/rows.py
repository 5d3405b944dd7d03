"""Turn the rows of files and databases into films."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmgcs.errors import InputError, UsageError
from mmgcs.files import is_inside
from mmgcs.film import Film, is_missing
from mmgcs.genres import parse_genres
from mmgcs.labels import LABEL_SOURCES
from mmgcs.preprocess import is_placeholder, placeholder_warning
from mmgcs.tables.source import Row

ALIASES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "imdb_id", "imdbid", "tconst", "show_id", "tmdb_id", "movie_id", "_id"),
    "title": ("title", "name", "original_title", "primarytitle"),
    "year": ("year", "release_year", "startyear", "release_date"),
    "plot": ("plot", "overview", "synopsis", "description", "storyline", "summary"),
    "genres": ("genres", "genre", "listed_in"),
    "poster": ("poster", "poster_path", "image", "poster_file", "poster_url", "image_url", "poster_link"),
    "split": ("split",),
    "labels": ("labels",),
}
"""Film field to the column names it is read from, best first. Case is ignored; spaces match underscores."""

_TRANSLATED: Mapping[str, tuple[str, ...]] = {
    "title": ("titel", "titre", "título", "titulo", "titolo"),
    "year": ("jahr", "année", "annee", "año", "ano", "anno", "jaar"),
    "plot": (
        *("handlung", "beschreibung", "inhalt", "inhaltsangabe", "résumé", "intrigue", "sinopsis", "resumen"),
        *("descripción", "descripcion", "sinopse", "resumo", "descrição", "descricao", "trama", "sinossi"),
        *("descrizione", "beschrijving", "samenvatting", "inhoud"),
    ),
    "genres": ("género", "géneros", "genero", "generos", "gênero", "gêneros", "genere", "generi"),
}
"""The same in German, French, Spanish, Portuguese, Italian and Dutch; the names above come first."""

DOWNLOAD = "download posters first, with mmgcs data posters"

_YEAR = re.compile(r"\s*((?:18|19|20|21)\d\d)(?!\d)")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_TMDB_PATH = re.compile(r"/[\w-]+\.(?:jpe?g|png|webp|svg)", re.IGNORECASE)

# A table has many films, but few combinations of genres.
_parse_genres = functools.lru_cache(maxsize=4096)(parse_genres)


class RowReader:
    """Turns rows into films.

    Attributes:
        sources: film field to the column it is read from.
        posters: the folder that posters must be in; None if they are in an object store: films then get relative
            paths.
    """

    def __init__(
        self,
        columns: Sequence[str],
        posters: Path | None,
        named: Mapping[str, str] | None = None,
        *,
        poster_paths: bool = True,
    ) -> None:
        self.sources = sources_of(columns, named=named)
        self.posters = posters
        self._poster_paths = poster_paths
        self._named = named
        self._known = frozenset(columns)
        self._root = os.path.realpath(posters) if posters is not None else ""

    def film(self, row: Row, number: int) -> Film:
        """Return the film of a row. A row that cannot be used becomes a film with a `problem`.

        Args:
            row: the row.
            number: the film's id if the table has no column for it.
        """
        values = row.values
        # JSON lines may have keys that the first lines lack.
        sources = self.sources if values.keys() <= self._known else sources_of(tuple(values), named=self._named)
        taken = {field: unwrap(values.get(column)) for field, column in sources.items()}
        warnings = list(row.warnings)
        problem = row.problem

        texts = {name: _text(taken.get(name), name, warnings) for name in ("title", "plot", "split", "labels")}
        if texts["plot"] is not None and is_placeholder(texts["plot"]):
            warnings.append(placeholder_warning(texts["plot"]))
            texts["plot"] = None
        given = taken.get("year")
        year = None if isinstance(given, bool) else _YEAR.match(str(given)[:40])
        if year is None and not _is_null(given):
            warnings.append(f"ignored invalid year {str(given)[:40]!r}")
        poster: Path | bytes | None = None
        try:
            poster = self._poster(taken.get("poster"), warnings)
        except InputError as error:
            problem = problem or str(error)
        identity = taken.get("id") if "id" in sources else number
        genres = taken.get("genres")
        return Film(
            id="" if _is_blank(identity) else str(identity).strip(),
            title=texts["title"],
            year=int(year[1]) if year else None,
            plot=texts["plot"],
            poster=poster,
            genres=(_parse_genres(genres) if isinstance(genres, str) else parse_genres(genres)) or None,
            split=texts["split"],
            labels=known if (known := (texts["labels"] or "").lower()) in LABEL_SOURCES else texts["labels"],
            record=values,
            problem=problem,
            warnings=tuple(warnings),
            place=row.place or f"row {number}",
        )

    def _poster(self, given: Any, warnings: list[str]) -> Path | bytes | None:
        """Return a poster's bytes or its path. Raises InputError for a path outside the posters folder."""
        if isinstance(given, Mapping) and {"bytes", "path"} & given.keys():  # an image of Hugging Face's datasets
            given = given.get("bytes") or given.get("path")
        if isinstance(given, bytes | bytearray):
            return bytes(given) or None
        if _is_null(given):
            return None
        if not isinstance(given, str | int | float) or isinstance(given, bool):
            warnings.append(f"the poster is {_kind(given)}, not a path or bytes; it was ignored")
            return None
        if not self._poster_paths:
            warnings.append("poster paths in an uploaded table are not read; send posters one by one, or use mmgcs tag")
            return None
        path = str(given).strip()
        if _ADDRESS.match(path):
            warnings.append(f"the poster {path[:200]} is a web address; {DOWNLOAD}")
            return None
        if _TMDB_PATH.fullmatch(path):
            path = path[1:]
            if self.posters is not None and not (self.posters / path).is_file():
                warnings.append(f"the poster /{path[:200]} is a path at TMDB; {DOWNLOAD}")
                return None
        if not self._is_inside(path):
            raise InputError(f"the poster {path[:200]!r} is outside the posters folder; give a path inside it")
        return Path(path) if self.posters is None else self.posters / path

    def _is_inside(self, relative: str) -> bool:
        if self.posters is None:
            return is_inside(relative)
        if "\x00" in relative or _DRIVE.match(relative):
            return False
        try:
            real = os.path.realpath(os.path.join(self._root, relative))  # noqa: PTH118  pathlib would take twice as long
        except (OSError, ValueError):
            return False
        return real.startswith(self._root.rstrip(os.sep) + os.sep)


def sources_of(
    columns: Sequence[str],
    aliases: Mapping[str, Sequence[str]] = ALIASES,
    *,
    named: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the column that each film field is read from, without the fields that have none.

    Args:
        columns: the table's columns.
        aliases: film field to its usual column names, in lower case and with underscores.
        named: film field to the column that the user chose for it.
    """
    folded = {_fold(column): column for column in reversed(columns)}
    found = {}
    for field, names in aliases.items():
        chosen = (named or {}).get(field)
        wanted = (_fold(chosen),) if chosen is not None else (*names, *_TRANSLATED.get(field, ()))
        matches = (folded[name] for name in wanted if name in folded)
        column = chosen if chosen in columns else next(matches, None)
        if column is not None:
            found[field] = column
    return found


def check_sources(columns: Sequence[str], named: Mapping[str, str], what: object) -> None:
    """Raise UsageError if `named` has an unknown field or a missing column, or there is no plot and no poster."""
    sources = sources_of(columns, named=named)
    for field, column in named.items():
        if field not in ALIASES:
            raise UsageError(f"--columns {field}={column}: there is no field {field}; known: {', '.join(ALIASES)}")
        if field not in sources:
            raise UsageError(f"{what} has no column {column!r}; its columns are {list_columns(columns)}")
    if "plot" not in sources and "poster" not in sources:
        raise UsageError(
            f"{what} has no column for the plot ({', '.join(ALIASES['plot'])}) or the poster; "
            f"name it with --columns plot=COLUMN; its columns are {list_columns(columns)}"
        )


def notices_of(sources: Mapping[str, str], named: Mapping[str, str] | None = None) -> list[str]:
    """Return a line for each field that is read from a column of another name, unless the user chose it."""
    return [
        f"{field} is read from the column {column!r}"
        for field, column in sources.items()
        if _fold(column) != field and field not in (named or {})
    ]


def list_columns(columns: Sequence[str]) -> str:
    """Return the columns as text for an error message."""
    return ", ".join(columns)[:300]


def _fold(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().casefold())


def unwrap(value: Any) -> Any:
    """Unwrap MongoDB's extended JSON, such as `{"$oid": "573a…"}`."""
    if isinstance(value, Mapping) and len(value) == 1:
        (key,) = value
        if str(key).startswith("$"):
            return value[key]
    return value


def _is_blank(value: Any) -> bool:
    return value.strip() in ("", "\\N") if isinstance(value, str) else is_missing(value)


def _is_null(value: Any) -> bool:
    """Return True for blank values and words such as "N/A"."""
    word = isinstance(value, str) and len(value) < 10 and value.strip("./") != ""
    return _is_blank(value) or (word and is_placeholder(value))


def _text(value: Any, name: str, warnings: list[str]) -> str | None:
    if _is_blank(value):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            pass
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    warnings.append(f"the {name} is {_kind(value)}, not text; it was ignored")
    return None


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", bool: "true or false", bytes: "bytes"}.get(type(value), "something else")
