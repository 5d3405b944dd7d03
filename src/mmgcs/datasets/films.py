"""Our own table of films, FILMS: read with polars, and written by extension, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl

from mmgcs.datasets.base import SOURCES, Source, to_raw
from mmgcs.errors import InputError, UsageError
from mmgcs.files import atomic_path
from mmgcs.tables import ALIASES, WRITERS, Frame, read_frame, sources_of, table_columns, table_format, write_table

_NAMES: Mapping[str, Sequence[str]] = {
    **ALIASES,
    "poster": ("poster", "image", "poster_file"),
    "poster_path": ("poster_path",),
    "poster_url": ("poster_url", "image_url", "poster_link"),
    **{name: (name,) for name in ("collection", "language", "cohort")},
}
"""The columns that every command reads a film from, and the ones that only matter before training."""


def read_films(path: Path, columns: Mapping[str, str] | None = None) -> Frame:
    """Read a table of films with the columns of `RAW_SCHEMA` as far as it has them.

    Args:
        path: as for `mmgcs.tables.read_films`.
        columns: film field to the column to read it from.

    Raises:
        InputError: the table has no `id`.
        UsageError: it cannot be read.
    """
    there = table_columns(path)
    sources = sources_of(there, _NAMES, named=columns)
    if "id" not in sources:
        raise InputError(f"{path} has no column id (nor imdb_id); its columns are {', '.join(there[:12])}")
    raw = read_frame(path, to_raw(there, {field: (column,) for field, column in sources.items()}))
    # An address, or a path at TMDB, is where the poster can be downloaded from, whatever its column is called.
    address, at_tmdb = pl.col("poster").str.contains("(?i)^https?://"), pl.col("poster").str.contains(r"^/[\w-]+\.\w+$")
    frame = raw.frame.with_columns(
        pl.when(~address & ~at_tmdb).then("poster").alias("poster"),
        pl.coalesce("poster_url", pl.when(address).then("poster")).alias("poster_url"),
        pl.coalesce("poster_path", pl.when(at_tmdb).then("poster")).alias("poster_path"),
    )
    return replace(raw, frame=frame)


SOURCES.register("films")(
    Source(
        "a FILMS table: CSV, JSONL or Parquet with id, plot and genres",
        lambda path, columns: {"id", "genres"} <= sources_of(columns).keys(),
        read_films,
    )
)

_QUICK: Mapping[str, Callable[[pl.DataFrame, Path], object]] = {
    ".csv": pl.DataFrame.write_csv,
    ".jsonl": pl.DataFrame.write_ndjson,
    ".ndjson": pl.DataFrame.write_ndjson,
    # A fifth larger than at the usual level 3, in half the time.
    **dict.fromkeys((".parquet", ".pq"), partial(pl.DataFrame.write_parquet, compression_level=1)),
}
"""What polars writes by itself; `write_table` writes the other formats, row by row."""


def check_writable(path: Path) -> None:
    """Raise UsageError for a path that `write_films` cannot write, before any work is done for it."""
    problem = "is a folder" if path.is_dir() else None if table_format(path)[0] in WRITERS else "has no known extension"
    if problem is not None:
        raise UsageError(f"{path} {problem}; name a file ending in .csv, .tsv, .jsonl or .parquet")


def write_films(frame: pl.DataFrame, path: Path) -> None:
    """Write a table of films by the extension of `path`, whole or not at all.

    Raises:
        UsageError: there is no writer for that extension.
    """
    check_writable(path)
    suffix, compressed = table_format(path)
    if compressed or suffix not in _QUICK:
        write_table(frame.iter_rows(named=True), path, frame.schema)
        return
    with atomic_path(path) as temporary:
        _QUICK[suffix](frame, temporary)
