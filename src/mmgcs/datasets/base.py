"""What a labelled source is: a reader that brings a published data set into one shape, and the registry of readers."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mmgcs.errors import InputError
from mmgcs.registry import Registry

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
    """

    about: str
    recognises: Callable[[Path, Sequence[str]], bool]
    read: Callable[[Path], Raw]


SOURCES: Registry[Source] = Registry("data source")


def detect_source(path: Path) -> str:
    """The name of the source that `path` looks like.

    Raises:
        InputError: the path does not exist, or no reader recognises it.
    """
    columns = [] if path.is_dir() else table_columns(path)
    for name in DETECTION_ORDER:
        if SOURCES[name].recognises(path, columns):
            return name
    what = "the folder has no <id>.json files" if path.is_dir() else f"its columns are {', '.join(columns[:12])}"
    known = "; ".join(f"{name}, {SOURCES[name].about}" for name in SOURCES)
    raise InputError(f"{path} is no data set that is known here ({what}); say which with --from: {known}")


DETECTION_ORDER = ("mmimdb", "original", "movielens", "tmdb", "films")
"""From the most particular shape to the least."""


def table_columns(path: Path) -> list[str]:
    """The column names of a CSV, JSONL or Parquet file. Raises InputError where it cannot be read."""
    return table_schema(path).names() if path.suffix.lower() != ".csv" else _csv_header(path)


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
    with _readable(path).open(encoding="utf-8-sig", errors="replace", newline="") as handle:
        try:
            header = next(csv.reader(handle), [])
        except csv.Error as error:
            raise InputError(f"{path} is not a CSV file ({error}); check that it is whole") from None
    if not header:
        raise InputError(f"{path} is empty; give a file with a header and films")
    return header


def _readable(path: Path) -> Path:
    if not path.exists():
        raise InputError(f"{path} does not exist; check the path")
    if not path.is_file():
        raise InputError(f"{path} is not a file; give a CSV, JSONL or Parquet file")
    return path


def scan_table(path: Path) -> pl.LazyFrame:
    """A lazy view of a CSV (every column as text), JSONL or Parquet file, by its extension.

    Raises:
        InputError: the file does not exist, or has another extension.
    """
    _readable(path)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return pl.scan_csv(path, infer_schema=False, encoding="utf8-lossy", truncate_ragged_lines=True, glob=False)
    if suffix in (".jsonl", ".ndjson"):
        return pl.scan_ndjson(path, infer_schema_length=None)
    if suffix == ".parquet":
        return pl.scan_parquet(path, glob=False)
    raise InputError(f"{path} is not a table that can be read; give a file ending in .csv, .jsonl or .parquet")


def read_columns(path: Path, expressions: Sequence[pl.Expr]) -> pl.DataFrame:
    """Read `expressions` of a table, streaming, so that the other columns cost no memory.

    A CSV file whose quotes polars cannot follow is read again by the standard library, which is slower and forgiving.

    Raises:
        InputError: the file cannot be read or lacks a column.
    """
    try:
        return scan_table(path).select(expressions).collect(engine="streaming")
    except pl.exceptions.ColumnNotFoundError as error:
        raise InputError(f"{path} lacks a column that this data set has ({_reason(error)}); check --from") from None
    except pl.exceptions.NoDataError:
        raise InputError(f"{path} is empty; give a file with a header and films") from None
    except pl.exceptions.PolarsError as error:
        if path.suffix.lower() != ".csv":
            raise InputError(f"{path} cannot be read ({_reason(error)}); check that it is whole") from None
    return _forgiving_csv(path).select(expressions)


def _forgiving_csv(path: Path) -> pl.DataFrame:
    csv.field_size_limit(2**27)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as handle:
        reader = csv.reader(line.replace("\x00", "") for line in handle)
        header = next(reader, [])
        rows = [(row + [""] * len(header))[: len(header)] for row in reader if row]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(header, pl.String), orient="row")
    return frame.with_columns(pl.all().replace("", None))


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
