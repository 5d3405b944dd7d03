"""Read a table as a polars frame, for the commands that work on whole tables.

Polars reads an intact file many times faster than our readers do row by row. If it refuses the file, or would silently
pad, cut or merge rows, the frame is built from the rows instead.
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


@dataclass(frozen=True, slots=True)
class Frame:
    """A table read as a frame.

    Attributes:
        frame: one row per film.
        problems: one for each row that could not be read and is not in the frame.
    """

    frame: pl.DataFrame
    problems: tuple[str, ...] = ()


def table_columns(path: str | Path) -> list[str]:
    """Return a table's columns. Raises UsageError if it cannot be read."""
    return list(dict.fromkeys(name for file, _, table in _tables(path) for name in [*table.columns, *file.partition]))


def read_frame(path: str | Path, expressions: Sequence[pl.Expr]) -> Frame:
    """Evaluate expressions on a table's columns; other columns use no memory.

    Args:
        path: as for `mmgcs.tables.read_films`.
        expressions: on columns that are text, or have the types of a Parquet file.

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
        constants = [pl.lit(file.partition.get(name)).alias(name) for name in needed if name not in table.columns]
        quick = _quick(local, table, [*expressions], constants)
        frames += _row_by_row(table, file, needed, expressions, problems) if quick is None else [quick]
    if missing := next((name for name in needed if name not in found), None):
        raise InputError(f"{path} lacks a column that this data set has ({missing}); check --from")
    return Frame(pl.concat(frames, how="vertical_relaxed"), tuple(problems))  # columns that only some files have


def _tables(path: str | Path) -> Iterator[tuple[TableFile, Path, Table]]:
    """Yield each file of a table, its local path, and the opened table."""
    for file in find_tables(path):
        scratch = tempfile.TemporaryDirectory(prefix="mmgcs-table-") if file.remote else contextlib.nullcontext("")
        with scratch as folder:
            local = file.local(Path(folder))
            yield file, local, READERS[file.format](local, None)


def _quick(path: Path, table: Table, expressions: list[pl.Expr], constants: list[pl.Expr]) -> pl.DataFrame | None:
    """Read the file with polars; return None if it refuses or may have misread it."""
    if table.scan is None:
        return None
    checks: list[pl.Expr] = []
    if table.delimiter is not None:
        width, mark = len(table.columns), re.escape(table.delimiter)
        # A stray quote may have merged rows if a line inside a cell begins like a row or has as many delimiters.
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
    """Yield frames of the readable rows, and add the problems of the others to `problems`."""
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
        batch = list(itertools.islice(remaining, 10_000))
        yield pl.DataFrame(batch, schema=schema, orient="row").select(expressions)
