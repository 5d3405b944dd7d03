"""Tables of films: rows of any supported format become films, in order, in chunks, and none is lost.

>>> from mmgcs.tables import read_films
>>> chunks = read_films(path, posters=folder)  # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

from mmgcs.errors import UsageError
from mmgcs.files import sha256
from mmgcs.film import Film
from mmgcs.tables.readers import READERS, Opened
from mmgcs.tables.rows import ALIASES, RowReader, sources_of
from mmgcs.tables.seen import SeenIds
from mmgcs.tables.source import check_readable, spooled_stdin, table_format

CHUNK = 512
"""Films a chunk: enough to sort by length within, few enough that their decoded posters take 60 MB."""

MAX_CHUNK_MEMORY = 16 * 2**20
"""Bytes that the rows of a chunk take, past which a chunk is closed early: plots of a megabyte must not fill memory."""

STDIN = Path("-")


class FilmTable:
    """A table of films that was opened: its header is read and checked, its rows are not.

    Attributes:
        path: the file.
        columns: its columns; for JSONL those of its first thousand lines.
        types: column to its type for `write_table`; None if the format does not say (JSON lines).
        sources: film field to the column it is read from.
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
        self._opened: Opened = READERS[suffix or table_format(path)[0]](path, delimiter)
        self.columns = self._opened.columns
        self.types = self._opened.types
        self._rows = RowReader(self.columns, self.posters)
        self.sources = self._rows.sources
        self._reopen = functools.partial(FilmTable, path, posters=posters, delimiter=delimiter, suffix=suffix)
        if "plot" not in self.sources and "poster" not in self.sources:
            raise UsageError(
                f"{path} has no column plot (or overview) or poster; its columns are {', '.join(self.columns)[:300]}"
            )

    def chunks(self, size: int = CHUNK) -> Iterator[list[Film]]:
        """The films in order, `size` at a time, fewer where their texts are huge.

        Can be taken once; reads no further than it is asked to.
        """
        seen = SeenIds()
        films: list[Film] = []
        held = 0
        for number, row in enumerate(self._opened.rows, 1):
            films.append(self._rows.film(row, number))
            held += row.size
            if len(films) == size or held > MAX_CHUNK_MEMORY:
                yield _with_duplicates(films, seen)
                films, held = [], 0
        if films:
            yield _with_duplicates(films, seen)

    def reopen(self) -> FilmTable:
        """Return the same table, to be read from its start."""
        return self._reopen()

    def fingerprint(self) -> str:
        """Return the SHA-256 of what is read."""
        return sha256(self.path)

    def share(self) -> float:
        """The share of the table that was read so far, 0 to 1."""
        return self._opened.share()


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


def need_column(path: Path, field: str) -> None:
    """Tell a table that has no column for a film's `field` from one in which the column is empty.

    For callers that found the field in no film: lines of JSON may each have other keys, so the columns alone do not
    say that it is in none.

    Raises:
        UsageError: the table has no such column.
    """
    columns = FilmTable(path).columns
    if field not in sources_of(columns):
        wanted = " or ".join(ALIASES[field])
        raise UsageError(f"{path} has no column {wanted}; its columns are {', '.join(columns)[:300]}")


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
