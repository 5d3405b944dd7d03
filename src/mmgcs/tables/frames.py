"""Read a table as a polars frame, for the commands that work on whole tables.

Polars reads a sound file many times faster than it can be read row by row. Where it would pad, cut or merge rows
silently, or refuses the file, the frame is made of the rows instead.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mmgcs.errors import InputError
from mmgcs.tables.locations import TableFile, find_tables
from mmgcs.tables.readers import READERS, Table
from mmgcs.tables.rows import unwrap
from mmgcs.tables.source import open_table
from mmgcs.tables.writers import as_cell

BATCH = 10_000
"""Rows that are read one by one before they become a frame."""


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
    """Read expressions of a table's columns; the other columns cost no memory.

    Args:
        path: as for `mmgcs.tables.read_films`.
        expressions: over columns that are text, or of the file's own types if it is Parquet.

    Raises:
        InputError: the table lacks a column.
        UsageError: it cannot be read.
    """
    needed = dict.fromkeys(name for expression in expressions for name in expression.meta.root_names())
    found: set[str] = set()
    frames: list[pl.DataFrame] = []
    problems: list[str] = []
    for file, local, table in _tables(path):
        found |= {*table.columns, *file.partition}
        constants = [
            pl.lit(file.partition.get(name), dtype=pl.String).alias(name)
            for name in needed
            if name not in table.columns
        ]
        quick = _quick(local, table, [*expressions], constants)
        frames += _row_by_row(table, file, needed, expressions, problems) if quick is None else [quick]
    if missing := next((name for name in needed if name not in found), None):
        raise InputError(f"{path} lacks a column that this data set has ({missing}); check --from")
    return Frame(pl.concat(frames), tuple(problems))


def _tables(path: str | Path) -> Iterator[tuple[TableFile, Path, Table]]:
    """Yield each file of a table, its path on this machine, and the file opened."""
    for file in find_tables(path):
        scratch = tempfile.TemporaryDirectory(prefix="mmgcs-table-") if file.remote else contextlib.nullcontext("")
        with scratch as folder:
            local = file.local(Path(folder))
            yield file, local, READERS[file.format](local, None)


def _quick(path: Path, table: Table, expressions: list[pl.Expr], constants: list[pl.Expr]) -> pl.DataFrame | None:
    """Return what polars reads, or None if that may not be what the file holds."""
    if table.scan is None:
        return None
    checks: list[pl.Expr] = []
    if table.delimiter is not None:
        width, mark = len(table.columns), re.escape(table.delimiter)
        # Within a cell, a line that begins like a row, or has as many delimiters: a stray quote may have merged rows.
        row = rf'\n(?:"?[^\s"{mark}]*\d[^\s"{mark}]*"?{mark}|(?:[^\n{mark}]*{mark}){{{max(1, width - 1)}}})'
        checks = [
            pl.any_horizontal(pl.col(table.columns).str.contains(row)).alias("__merged"),
            pl.sum_horizontal(pl.col(table.columns).str.count_matches(table.delimiter, literal=True)).alias("__inside"),
        ]
    try:
        frame = table.scan().with_columns(constants).select([*expressions, *checks]).collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError):
        return None
    if table.delimiter is None:
        return frame
    delimiters = (frame.height + 1) * (width - 1) + int(frame["__inside"].sum())
    delimiters += sum(name.count(table.delimiter) for name in table.columns)
    with open_table(path) as raw:
        stored = sum(piece.count(table.delimiter.encode()) for piece in iter(lambda: raw.read(2**22), b""))
    return None if frame["__merged"].any() or delimiters != stored else frame.drop("__merged", "__inside")


def _row_by_row(
    table: Table, file: TableFile, names: Iterable[str], expressions: Sequence[pl.Expr], problems: list[str]
) -> Iterator[pl.DataFrame]:
    """Yield frames of the rows that can be read; the problems of the others are added to `problems`."""
    schema = dict.fromkeys(names, pl.String())

    def rows() -> Iterator[list[str | None]]:
        for row in table.rows:
            if row.problem is not None:
                problems.append(f"{Path(file.address).name}, {row.problem}")
                continue
            values = {**file.partition, **row.values}
            yield [as_cell(name, unwrap(values.get(name))) or None for name in schema]

    remaining, batch = rows(), None
    while batch is None or batch:
        batch = list(itertools.islice(remaining, BATCH))
        yield pl.DataFrame(batch, schema=schema, orient="row").select(expressions)
