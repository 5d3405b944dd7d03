"""Our own table of films, FILMS: read, and written by extension, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import polars as pl

from mmgcs.datasets.base import SOURCES, Raw, Source, read_columns, table_columns, table_schema, to_raw
from mmgcs.errors import InputError, UsageError
from mmgcs.files import atomic_path

_NAMES = {
    "id": ("id", "imdb_id"),
    "title": ("title",),
    "year": ("year", "release_date"),
    "plot": ("plot", "overview"),
    "genres": ("genres",),
    "poster": ("poster",),
    "poster_path": ("poster_path",),
    "poster_url": ("poster_url",),
    "collection": ("collection",),
    "labels": ("labels",),
    "split": ("split",),
}


def _recognises(path: Path, columns: Sequence[str]) -> bool:
    return bool({"id", "imdb_id"} & set(columns)) and "genres" in columns


def read_films(path: Path) -> Raw:
    """Read a FILMS table: CSV, JSONL or Parquet, with the columns of `RAW_SCHEMA` as far as it has them.

    Raises:
        InputError: the file cannot be read, or has no `id`.
    """
    columns = table_columns(path)
    if not {"id", "imdb_id"} & set(columns):
        raise InputError(f"{path} has no column id (nor imdb_id); its columns are {', '.join(columns[:12])}")
    genres: pl.Expr = pl.col("genres")
    if "genres" in columns and table_schema(path)["genres"] == pl.List(pl.String):
        genres = genres.list.join("|")
    expressions = to_raw(columns, _NAMES)
    if "genres" in columns:
        index = [expression.meta.output_name() for expression in expressions].index("genres")
        expressions[index] = genres.cast(pl.String).alias("genres")
    return Raw(read_columns(path, expressions))


SOURCES.register("films")(
    Source("a FILMS table: CSV, JSONL or Parquet with id, plot and genres", _recognises, read_films)
)

WRITERS: Mapping[str, Callable[[pl.DataFrame, Path], object]] = {
    ".csv": pl.DataFrame.write_csv,
    ".jsonl": pl.DataFrame.write_ndjson,
    ".ndjson": pl.DataFrame.write_ndjson,
    # A fifth larger than at the usual level 3, in half the time.
    ".parquet": partial(pl.DataFrame.write_parquet, compression_level=1),
}


def check_writable(path: Path) -> None:
    """Refuse a file name that `write_films` would refuse, before any work is done for it. Raises UsageError."""
    if path.suffix.lower() not in WRITERS:
        raise UsageError(f"{path} has no known extension; name a file ending in .csv, .jsonl or .parquet")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file ending in .csv, .jsonl or .parquet")


def write_films(frame: pl.DataFrame, path: Path) -> None:
    """Write a table of films by the extension of `path`, whole or not at all.

    Raises:
        UsageError: the extension is none of .csv, .jsonl and .parquet.
    """
    check_writable(path)
    with atomic_path(path) as temporary:
        WRITERS[path.suffix.lower()](frame, temporary)
