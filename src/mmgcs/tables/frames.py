"""Read a table as a polars frame, for the commands that work on whole tables.

Polars reads a sound file many times faster than it can be read row by row. Where it would pad, cut or merge rows
silently, or refuses the file, the frame is made of the rows instead.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mmgcs.errors import InputError
from mmgcs.tables.locations import TableFile, find_tables
from mmgcs.tables.readers import READERS, Table
from mmgcs.tables.source import open_table


@dataclass(frozen=True, slots=True)
class Frame:
    """Columns of a table.

    Attributes:
        frame: one row per film.
        problems: the problem of each row that could not be read; such rows are not in the frame.
    """

    frame: pl.DataFrame
    problems: tuple[str, ...] = ()


def table_columns(path: str | Path) -> list[str]:
    """Return a table's columns. Raises UsageError if it cannot be read."""
    return list(dict.fromkeys(name for file, _, table in _tables(path) for name in [*table.columns, *file.partition]))


def read_frame(path: str | Path, expressions: Sequence[pl.Expr]) -> Frame:
    """Read expressions of a table's columns, streaming, so that the other columns cost no memory.

    Args:
        path: as for `mmgcs.tables.read_films`.
        expressions: over columns that are text, or of the file's own types if it has types.

    Raises:
        InputError: the table lacks a column.
        UsageError: it cannot be read.
    """
    frames: list[pl.DataFrame] = []
    problems: list[str] = []
    alone = len(find_tables(path)) == 1
    try:
        for file, local, table in _tables(path):
            if alone and (quick := _quick(local, table, file, expressions)) is not None:
                return Frame(quick)
            frames.append(_row_by_row(table, file, problems))
        return Frame(pl.concat(frames, how="diagonal").select(expressions), tuple(problems))
    except pl.exceptions.ColumnNotFoundError as error:
        missing = str(error).split("\n", 1)[0]
        raise InputError(f"{path} lacks a column that this data set has ({missing}); check --from") from None


def _tables(path: str | Path) -> Iterator[tuple[TableFile, Path, Table]]:
    """Yield each file of a table, its path on this machine, and the file opened."""
    for file in find_tables(path):
        scratch = tempfile.TemporaryDirectory(prefix="mmgcs-table-") if file.remote else contextlib.nullcontext("")
        with scratch as folder:
            local = file.local(Path(folder))
            yield file, local, READERS[file.format](local, None)


def _quick(path: Path, table: Table, file: TableFile, expressions: Sequence[pl.Expr]) -> pl.DataFrame | None:
    """Return what polars reads, or None if that may not be what the file holds."""
    if table.scan is None:
        return None
    scan = table.scan().with_columns(pl.lit(value).alias(name) for name, value in file.partition.items())
    try:
        if table.delimiter is None:
            return scan.select(expressions).collect(engine="streaming")
        width, mark = len(table.columns), re.escape(table.delimiter)
        # Within a cell, a line that begins like a row, or has as many delimiters: a stray quote may have merged rows.
        row = rf'\n(?:"?[^\s"{mark}]*\d[^\s"{mark}]*"?{mark}|(?:[^\n{mark}]*{mark}){{{max(1, width - 1)}}})'
        checks = [
            pl.any_horizontal(pl.col(table.columns).str.contains(row)).alias("__merged"),
            pl.sum_horizontal(pl.col(table.columns).str.count_matches(table.delimiter, literal=True)).alias("__inside"),
        ]
        frame = scan.select([*expressions, *checks]).collect(engine="streaming")
        delimiters = (frame.height + 1) * (width - 1) + int(frame["__inside"].sum())
        delimiters += sum(name.count(table.delimiter) for name in table.columns)
        with open_table(path) as raw:
            found = sum(piece.count(table.delimiter.encode()) for piece in iter(lambda: raw.read(2**22), b""))
        return None if frame["__merged"].any() or delimiters != found else frame.drop("__merged", "__inside")
    except pl.exceptions.ColumnNotFoundError:
        raise
    except (pl.exceptions.PolarsError, OSError):
        return None


def _row_by_row(table: Table, file: TableFile, problems: list[str]) -> pl.DataFrame:
    """Return the rows that can be read; the problems of the others are added to `problems`."""
    rows: list[dict[str, str | None]] = []
    columns = dict.fromkeys([*table.columns, *file.partition])
    for row in table.rows:
        if row.problem is not None:
            problems.append(f"{Path(file.address).name}, {row.problem}")
            continue
        columns.update(dict.fromkeys(row.values))  # a key that the first lines of JSON lack
        rows.append({name: _text(value) for name, value in {**file.partition, **row.values}.items()})
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String))


def _text(value: object) -> str | None:
    text = value if isinstance(value, str | None) else json.dumps(value, ensure_ascii=False, default=str)
    return text or None
