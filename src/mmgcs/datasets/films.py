"""Our own table of films, FILMS: read, and written by extension, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import polars as pl

from mmgcs.datasets.base import SOURCES, Raw, Source, read_columns, table_columns, table_schema, to_raw
from mmgcs.errors import InputError, UsageError
from mmgcs.files import atomic_path
from mmgcs.tables import WRITERS, sources_of, write_table
from mmgcs.tables.rows import ALIASES
from mmgcs.tables.source import table_format

_NAMES: Mapping[str, Sequence[str]] = {
    **ALIASES,
    "year": (*ALIASES["year"], "release_date"),
    "poster_path": ("poster_path",),
    "poster_url": ("poster_url",),
    "collection": ("collection",),
}
"""The columns that every command reads a film from, and those that only matter before training."""


def _recognises(path: Path, columns: Sequence[str]) -> bool:
    return {"id", "genres"} <= sources_of(columns).keys()


def read_films(path: Path) -> Raw:
    """Read a FILMS table of any format that the catalog reads, with the columns of `RAW_SCHEMA` as far as it has them.

    Raises:
        InputError: the file cannot be read, or has no `id`.
    """
    columns = table_columns(path)
    sources = sources_of(columns, _NAMES)
    if "id" not in sources:
        raise InputError(f"{path} has no column id (nor imdb_id); its columns are {', '.join(columns[:12])}")
    expressions = to_raw(columns, {field: (column,) for field, column in sources.items()})
    if "genres" in sources:
        genres = pl.col(sources["genres"])
        if table_schema(path)[sources["genres"]] == pl.List(pl.String):
            genres = genres.list.join("|")
        index = [expression.meta.output_name() for expression in expressions].index("genres")
        expressions[index] = genres.cast(pl.String).alias("genres")
    return Raw(read_columns(path, expressions))


SOURCES.register("films")(
    Source("a FILMS table: CSV, JSONL or Parquet with id, plot and genres", _recognises, read_films)
)

_QUICK: Mapping[str, Callable[[pl.DataFrame, Path], object]] = {
    ".csv": pl.DataFrame.write_csv,
    ".jsonl": pl.DataFrame.write_ndjson,
    ".ndjson": pl.DataFrame.write_ndjson,
    # A fifth larger than at the usual level 3, in half the time.
    **dict.fromkeys((".parquet", ".pq"), partial(pl.DataFrame.write_parquet, compression_level=1)),
}
"""What polars writes by itself; the catalog writes other tables, row by row."""


def check_writable(path: Path) -> None:
    """Refuse a file name that `write_films` would refuse, before any work is done for it. Raises UsageError."""
    suffix, compressed = table_format(path)
    if suffix not in WRITERS and (compressed or suffix not in _QUICK):
        raise UsageError(f"{path} has no known extension; name a file ending in .csv, .tsv, .jsonl or .parquet")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file ending in .csv, .tsv, .jsonl or .parquet")


def write_films(frame: pl.DataFrame, path: Path) -> None:
    """Write a table of films by the extension of `path`, whole or not at all.

    Raises:
        UsageError: the extension is none that can be written.
    """
    check_writable(path)
    suffix, compressed = table_format(path)
    if compressed or suffix not in _QUICK:
        write_table(frame.iter_rows(named=True), path, frame.schema)
        return
    with atomic_path(path) as temporary:
        _QUICK[suffix](frame, temporary)
