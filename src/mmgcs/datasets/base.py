"""What a labelled source is: a reader that brings a published data set into one shape, and the registry of readers."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from mmgcs.errors import InputError
from mmgcs.registry import Registry
from mmgcs.tables import READERS
from mmgcs.tables.readers import Opened
from mmgcs.tables.source import is_utf16, read_lines, table_format

RAW_SCHEMA: Mapping[str, pl.DataType] = {
    "id": pl.String(),
    "title": pl.String(),
    "year": pl.Int32(),
    "plot": pl.String(),
    "genres": pl.String(),
    "poster": pl.String(),
    "poster_path": pl.String(),
    "poster_url": pl.String(),
    "collection": pl.String(),
    "labels": pl.String(),
    "split": pl.String(),
}
"""The columns that every reader gives. `genres` is as the source spells it (any form that `mmgcs.genres` parses);
`poster` is a file under the posters' folder, `poster_path` a path at TMDB, `poster_url` a whole address;
`collection` is the series' name where the source knows it."""

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class Raw:
    """What a reader found.

    Attributes:
        frame: one row a film, with the columns of `RAW_SCHEMA`; None is what is missing.
        broken: records that are no film (a row of the wrong shape, a JSON file that does not parse).
        examples: where the first few of them are, for the report.
    """

    frame: pl.DataFrame
    broken: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A published data set that can be read.

    Attributes:
        about: what it is, for people.
        recognises: whether a path looks like this data set, from its columns (empty for a folder).
        read: reads it.
        rank: of the sources that recognise a path the lowest reads it: low for a particular shape, high for a general.
    """

    about: str
    recognises: Callable[[Path, Sequence[str]], bool]
    read: Callable[[Path], Raw]
    rank: int = 100


SOURCES: Registry[Source] = Registry("data source")


def detect_source(path: Path) -> str:
    """The name of the source that `path` looks like.

    Raises:
        InputError: the path does not exist, or no reader recognises it.
    """
    columns = [] if path.is_dir() else table_columns(path)
    for name in sorted(SOURCES, key=lambda name: SOURCES[name].rank):
        if SOURCES[name].recognises(path, columns):
            return name
    what = "the folder has no <id>.json files" if path.is_dir() else f"its columns are {', '.join(columns[:12])}"
    known = "; ".join(f"{name}, {SOURCES[name].about}" for name in SOURCES)
    raise InputError(f"{path} is no data set that is known here ({what}); say which with --from: {known}")


def _delimited(path: Path, separator: str) -> pl.LazyFrame:
    """A lazy view of a CSV whose every column is text, its header's names without spaces around them."""
    return pl.scan_csv(
        path,
        separator=separator,
        infer_schema=False,
        encoding="utf8-lossy",
        truncate_ragged_lines=True,
        glob=False,
        with_column_names=lambda names: [name.strip() for name in names],
    )


def _json_lines(path: Path) -> pl.LazyFrame:
    return pl.scan_ndjson(path, infer_schema_length=None)


def _parquet(path: Path) -> pl.LazyFrame:
    return pl.scan_parquet(path, glob=False)


_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_SCANS: Mapping[str, Callable[[Path], pl.LazyFrame]] = {
    **{suffix: partial(_delimited, separator=separator) for suffix, separator in _DELIMITERS.items()},
    **dict.fromkeys((".jsonl", ".ndjson"), _json_lines),
    **dict.fromkeys((".parquet", ".pq"), _parquet),
}
"""What polars reads by itself, quickly, gzipped too; any other table comes from the catalog's readers."""


def _scan_of(path: Path) -> Callable[[Path], pl.LazyFrame] | None:
    """What reads the file quickly; None where the catalog's reader must. Raises as `scan_table`."""
    _readable(path)
    suffix = table_format(path)[0]
    if suffix not in READERS:
        raise InputError(f"{path} is not a table that can be read; give a file ending in {', '.join(READERS)}")
    scan = _SCANS.get(suffix)
    return None if scan is None or (scan is not _parquet and is_utf16(path)) else scan


def table_columns(path: Path) -> list[str]:
    """The column names of a table. Raises as `scan_table`, or InputError where it cannot be read."""
    scan = _scan_of(path)
    if scan is not None and table_format(path)[0] in _DELIMITERS:
        return _csv_header(path)
    return list(_opened(path).columns) if scan is None else table_schema(path).names()


def table_schema(path: Path) -> pl.Schema:
    """The columns and their types. Raises InputError where the file cannot be read."""
    try:
        return scan_table(path).collect_schema()
    except pl.exceptions.NoDataError:
        raise InputError(f"{path} is empty; give a file with films") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path} cannot be read ({_reason(error)}); check that it is whole") from None


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def _csv_header(path: Path) -> list[str]:
    lines = (line.text.replace("\x00", "") for line in read_lines(path))
    try:
        header = next(csv.reader(lines, delimiter=_DELIMITERS[table_format(path)[0]]), [])
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV file ({error}); check that it is whole") from None
    if not header:
        raise InputError(f"{path} is empty; give a file with a header and films")
    return [name.strip() for name in header]


def _readable(path: Path) -> Path:
    if not path.exists():
        raise InputError(f"{path} does not exist; check the path")
    if not path.is_file():
        raise InputError(f"{path} is not a file; give a table of films")
    return path


def scan_table(path: Path) -> pl.LazyFrame:
    """A view of a table of any format that the catalog reads, by its extension; lazy for the usual ones.

    Raises:
        InputError: the file does not exist, or has another extension.
        MmgcsError: it is damaged.
    """
    scan = _scan_of(path)
    return _row_by_row(path).lazy() if scan is None else scan(path)


def read_columns(path: Path, expressions: Sequence[pl.Expr]) -> pl.DataFrame:
    """Read `expressions` of a table, streaming, so that the other columns cost no memory.

    A CSV file whose quotes polars cannot follow is read again by the catalog's reader, which is slower and forgiving.

    Raises:
        InputError: the file cannot be read or lacks a column.
    """
    try:
        return scan_table(path).select(expressions).collect(engine="streaming")
    except pl.exceptions.ColumnNotFoundError as error:
        raise InputError(f"{path} lacks a column that this data set has ({_reason(error)}); check --from") from None
    except pl.exceptions.NoDataError:
        raise InputError(f"{path} is empty; give a file with a header and films") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        if table_format(path)[0] not in _DELIMITERS or isinstance(error, OSError):
            raise InputError(f"{path} cannot be read ({_reason(error)}); check that it is whole") from None
    return _row_by_row(path).select(expressions)


def _opened(path: Path) -> Opened:
    return READERS[table_format(path)[0]](path, None)


def _row_by_row(path: Path) -> pl.DataFrame:
    """A table as the catalog reads it, every value as text; a row that is too short or long is filled up or cut."""
    opened = _opened(path)
    columns: dict[str, list[str | None]] = {name: [] for name in opened.columns}
    for row in opened.rows:
        if row.problem is not None and not row.values:
            raise InputError(f"{path} cannot be read: {row.problem}")
        for name, cells in columns.items():
            value = row.values.get(name)
            text = value if isinstance(value, str | None) else json.dumps(value, ensure_ascii=False, default=str)
            cells.append(text or None)
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


def to_raw(columns: Sequence[str], names: Mapping[str, Sequence[str]]) -> list[pl.Expr]:
    """Expressions that bring a source's columns into `RAW_SCHEMA`.

    Args:
        columns: the columns that the source has.
        names: for each column of ours, the source's names for it, best first; ours without one stay empty.
    """
    expressions = []
    for ours, dtype in RAW_SCHEMA.items():
        theirs = [name for name in names.get(ours, ()) if name in columns]
        if not theirs:
            expressions.append(pl.lit(None, dtype=dtype).alias(ours))
        elif ours == "year":
            # A release date begins with the year in every source; MovieLens and Excel may write 1999.0.
            year = pl.col(theirs[0]).cast(pl.String).str.extract(r"(\d{4})").cast(pl.Int32, strict=False)
            expressions.append(pl.when(year.is_between(1870, 2100)).then(year).alias(ours))
        else:
            expressions.append(pl.coalesce(pl.col(name).cast(pl.String) for name in theirs).alias(ours))
    return expressions


def numeric_ids(frame: pl.DataFrame, path: Path) -> Raw:
    """Keep the rows whose id is a number; in files of TMDB and MovieLens the others are pieces of broken rows."""
    sound = frame["id"].str.contains(r"^\d+(\.0)?$").fill_null(False)
    broken = int((~sound).sum())
    if not broken:
        return Raw(frame.with_columns(pl.col("id").str.strip_suffix(".0")))
    where = [f"{path.name}, record {row + 1}" for row in (~sound).arg_true().head(5)]
    kept = frame.filter(sound).with_columns(pl.col("id").str.strip_suffix(".0"))
    return Raw(kept, broken, tuple(where))
