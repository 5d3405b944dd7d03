"""Tables of films: turn the rows of any supported format into films, in order and in chunks, and lose none."""

from __future__ import annotations

import functools
import hashlib
import itertools
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmgcs.errors import UsageError
from mmgcs.film import Film
from mmgcs.tables.locations import Folder, find_tables, fixed_part, is_remote
from mmgcs.tables.readers import READERS, Table
from mmgcs.tables.rows import ALIASES, RowReader, check_sources, list_columns, notices_of
from mmgcs.tables.source import Row

CHUNK = 512
"""Films per chunk: enough to batch plots by length, but few enough that decoded posters take only 60 MB."""


class FilmTable:
    """A table of films in one or more files: its columns are known, its rows are read on demand.

    Attributes:
        path: the given address.
        files: the files.
        ends: for each file that was read to its end, the number of rows up to there.
        sources: film field to the column it is read from.
        notices: messages to the user about how the table is read.
        posters: the folder that posters must be in.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        posters: str | Path | None = None,
        delimiter: str | None = None,
        columns: Mapping[str, str] | None = None,
        poster_paths: bool = True,
    ) -> None:
        """Open a table.

        Args:
            path: a file, a folder of files, a pattern such as `films/*.csv`, or the URL of one of these.
            posters: the folder of posters, or its URL; by default the table's folder.
            delimiter: the delimiter of CSV; detected by default.
            columns: film field to the column to read it from, such as {"plot": "synopsis"}.
            poster_paths: False to ignore paths of posters, for the table of a stranger.

        Raises:
            UsageError: the table is missing, empty or of an unknown format, or has neither a plot nor a poster column.
        """
        self._reopen = functools.partial(
            FilmTable, path, posters=posters, delimiter=delimiter, columns=columns, poster_paths=poster_paths
        )
        self.files = find_tables(path)
        self.path = Path(path)
        self.ends: list[int] = []
        self._declared: dict[str, pl.DataType | None] = {}  # column to type; None if a file has no types
        self._delimiter, self._named, self._poster_paths = delimiter, columns, poster_paths
        self._scratch = Path()
        if self.files[0].remote:
            self._scratch = Path(tempfile.mkdtemp(prefix="mmgcs-table-"))
            weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        if posters is None:
            alone = len(self.files) == 1 and not self.path.is_dir()
            posters = self.files[0].folder if alone or is_remote(path) else fixed_part(str(path))
        self.posters = Folder(posters) if is_remote(posters) else Path(posters)
        if isinstance(self.posters, Path) and not self.posters.is_dir():
            raise UsageError(f"the posters folder {posters} does not exist; check --posters")
        self._file = 0
        self._table = self._open(0)
        # Remote files are downloaded one by one as they are read.
        for number in range(1, 1 if self.files[0].remote else len(self.files)):
            self._open(number)
        check_sources(self.columns, columns or {}, path)
        self._rows = self._row_reader(self.columns)
        self.sources = self._rows.sources
        self.notices = notices_of(self.sources, columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the files opened so far; for JSON Lines, the ones in the first thousand lines.

        Local files are opened at once, remote files when they are read.
        """
        return tuple(dict.fromkeys([*self._declared, *(key for file in self.files for key in file.partition)]))

    @property
    def partition(self) -> tuple[str, ...]:
        """The columns that come only from the names of folders."""
        return tuple(name for name in self.columns if name not in self._declared)

    @property
    def types(self) -> dict[str, pl.DataType] | None:
        """The polars types of `columns`: text if files differ; None if a file has no types."""
        known = {name: kind for name, kind in self._declared.items() if kind is not None}
        if len(known) < len(self._declared):
            return None
        return {name: known.get(name, pl.String()) for name in self.columns}

    def _open(self, number: int) -> Table:
        file = self.files[number]
        table = READERS[file.format](file.local(self._scratch), self._delimiter)
        for name in table.columns:
            kind = table.types[name] if table.types is not None else None
            other = self._declared.get(name, kind)
            self._declared[name] = None if kind is None or other is None else kind if kind == other else pl.String()
        return table

    def _row_reader(self, columns: Sequence[str]) -> RowReader:
        posters = self.posters if isinstance(self.posters, Path) else None
        return RowReader(columns, posters, self._named, poster_paths=self._poster_paths)

    def rows(self) -> Iterator[Row]:
        """Yield the rows of all files in order. Can be iterated once."""
        count, several = 0, len(self.files) > 1
        for number, file in enumerate(self.files):
            if number:
                self._file, self._table = number, self._open(number)
            if several:  # files may have different columns
                self._rows = self._row_reader((*self._table.columns, *file.partition))
            for row in self._table.rows:
                count += 1
                if several or file.partition:
                    place = f"{Path(file.address).name}, {row.place}" if several else row.place
                    row = replace(row, values={**row.values, **file.partition, **row.values}, place=place)
                yield row
            self.ends.append(count)
            if file.remote:
                (self._scratch / Path(file.address).name).unlink(missing_ok=True)

    def chunks(self, size: int = CHUNK, *, fetch: bool = True) -> Iterator[list[Film]]:
        """Yield the films in order, `size` at a time, or fewer if they take over 16 MiB.

        Can be iterated once; reads no further than needed.

        Args:
            size: films per chunk.
            fetch: False to leave posters in the object store; see `fetch_posters`.
        """
        seen = _SeenIds()
        films: list[Film] = []
        held = 0
        for number, row in itertools.chain(enumerate(self.rows(), 1), [(0, None)]):
            if row is not None:
                films.append(self._rows.film(row, number))
                held += row.size
            if films and (row is None or len(films) == size or held > 16 * 2**20):
                for place, again in enumerate(seen.add([film.id for film in films])):
                    if again:
                        warning = f"the id {films[place].id[:80]!r} occurs earlier in the table"
                        films[place] = replace(films[place], warnings=(*films[place].warnings, warning))
                yield fetch_posters(films, self.posters) if fetch and isinstance(self.posters, Folder) else films
                films, held = [], 0

    def reopen(self) -> FilmTable:
        """Open the same table again, to read it from the start."""
        return self._reopen()

    def share(self) -> float:
        """Return the share of the table that was read so far, 0 to 1."""
        sizes = [max(1, file.size) for file in self.files]
        return (sum(sizes[: self._file]) + self._table.share() * sizes[self._file]) / sum(sizes)

    def need_genres(self) -> None:
        """Raise UsageError if there is no column of genres.

        Call it if no film has genres: the columns alone do not tell, because lines of JSON may each have other keys.
        """
        if "genres" not in self.sources:
            *names, last = ALIASES["genres"]
            has = list_columns(self.columns)
            raise UsageError(f"{self.path} has no column {', '.join(names)} or {last}; its columns are {has}")

    def fingerprint(self) -> str:
        """Return text that changes whenever the contents of the table change: the SHA-256 of a local file."""
        prints = [file.fingerprint() for file in self.files]
        return prints[0] if len(prints) == 1 else hashlib.sha256("\n".join(prints).encode()).hexdigest()


def read_films(
    path: str | Path,
    posters: str | Path | None = None,
    *,
    delimiter: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Iterator[list[Film]]:
    """Read the films of a table in order and in chunks; memory does not grow with the table.

    A row that cannot be read becomes a film with a `problem`. The arguments and errors are those of FilmTable; errors
    are raised at once, not at the first chunk.
    """
    return FilmTable(path, posters=posters, delimiter=delimiter, columns=columns).chunks()


def fetch_posters(films: list[Film], posters: Folder) -> list[Film]:
    """Return the films with their posters fetched from an object store, as bytes."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(functools.partial(_fetched, posters), films))


def _fetched(posters: Folder, film: Film) -> Film:
    if not isinstance(film.poster, Path):
        return film
    name = film.poster.as_posix()
    try:
        return replace(film, poster=posters.read(name))
    except OSError as error:
        why = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        problem = f"the poster {posters.address}/{name} {why}; check the path"
    if film.plot:
        return replace(film, poster=None, warnings=(*film.warnings, problem))
    return replace(film, poster=None, problem=film.problem or problem)


class _SeenIds:
    """A set of ids: sorted runs of 64-bit hashes, merged when two have similar lengths (O'Neil et al. 1996).

    A million ids take 8 MB, where a Python set of strings takes 100 MB. Two different ids share a hash in about one of
    ten million tables of a million films.
    """

    def __init__(self) -> None:
        self._runs: list[NDArray[np.int64]] = []

    def add(self, ids: Sequence[str]) -> list[bool]:
        """Add ids. Returns True for each that occurred before, also earlier in `ids`, except ""."""
        hashes = np.fromiter((hash(name) for name in ids), dtype=np.int64, count=len(ids))
        run, first = np.unique(hashes, return_index=True)
        again = np.ones(len(ids), dtype=bool)
        again[first] = False
        for earlier in self._runs:
            place = np.minimum(np.searchsorted(earlier, hashes), len(earlier) - 1)
            again |= earlier[place] == hashes
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = np.union1d(self._runs.pop(), run)
        self._runs.append(run)
        return [bool(name) and bool(was) for name, was in zip(ids, again, strict=True)]
