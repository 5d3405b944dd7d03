"""Readers of tables: functions registered in `READERS` by file extension. They turn a file into rows and lose none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mmgcs.errors import UsageError
from mmgcs.registry import Registry
from mmgcs.tables.source import CELL, Row

MAX_COLUMNS = 10_000
"""The most columns of a table; with more, the header is missing or the file is damaged."""

PACKED = {".parquet", ".pq", ".xlsx"}
"""Extensions of compressed formats, whose content may be much larger than the file."""


@dataclass(frozen=True, slots=True)
class Table:
    """An opened table: its columns are known, its rows are read on demand.

    Attributes:
        columns: the columns; for JSON Lines, the ones in the first thousand lines.
        rows: the rows; can be iterated once.
        share: returns the share of the table that was read so far, 0 to 1.
        types: column to its polars type; None if the format has no types (JSON).
        scan: reads the table with polars, which is faster; None if polars would read it differently. For a delimited
            file the result is only right if the file is intact, which `mmgcs.tables.frames` checks.
        delimiter: the delimiter of a delimited file.
    """

    columns: tuple[str, ...]
    rows: Iterator[Row]
    share: Callable[[], float]
    types: Mapping[str, pl.DataType] | None = None
    scan: Callable[[], pl.LazyFrame] | None = None
    delimiter: str | None = None


Reader = Callable[[Path, str | None], Table]
"""Opens a table; the second argument is the delimiter that the user gave, if any."""

READERS: Registry[Reader] = Registry("table format")


def check_columns(path: Path, columns: Collection[str]) -> None:
    """Raise UsageError if a table has too many columns, or one of them twice."""
    if len(columns) > MAX_COLUMNS:
        raise UsageError(f"{path} has more than {MAX_COLUMNS:,} columns; leave out the ones that do not describe films")
    twice = sorted(name for name, times in Counter(list(columns)).items() if times > 1)
    if twice:
        raise UsageError(f"{path} has the column {twice[0]!r} more than once; rename one of them")


@READERS.register(".parquet", ".pq")
def read_parquet(path: Path, delimiter: str | None = None) -> Table:
    """Open a Parquet file.

    Raises:
        UsageError: the file is not Parquet, is incomplete, or has too many columns.
    """
    del delimiter  # Parquet has none
    broken = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
    try:
        frame = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        schema = frame.collect_schema()
        total = int(frame.select(pl.len()).collect().item())
    except broken as error:
        raise UsageError(f"{path} cannot be read as Parquet; download or export the file again") from error
    columns, done = tuple(schema.names()), 0
    check_columns(path, columns)

    def rows() -> Iterator[Row]:
        nonlocal done
        try:
            for batch in frame.collect_batches(chunk_size=4096, maintain_order=True, lazy=True):
                for values in batch.iter_rows():
                    done += 1
                    size = sum(len(value) if isinstance(value, str | bytes) else CELL for value in values)
                    yield Row(dict(zip(columns, values, strict=True)), place=f"row {done}", size=size)
        except broken as error:
            why = str(error).splitlines()[0][:200]
            raise UsageError(f"{path} is damaged, or has an unknown type ({why}); export the file again") from error
        except ValueError as error:  # such as a date after the year 9999
            raise UsageError(f"{path} has a value that Python cannot represent ({error}); store it as text") from error

    return Table(columns, rows(), lambda: done / max(1, total), dict(schema), lambda: frame)


@READERS.register(".xlsx")
def read_excel(path: Path, delimiter: str | None = None) -> Table:
    """Open the first sheet of an Excel workbook.

    Raises:
        UsageError: the extra `excel` is not installed, or the file is not a workbook.
    """
    del delimiter  # a workbook has none
    try:
        frame = pl.read_excel(path, infer_schema_length=None)
    except ModuleNotFoundError:
        raise UsageError("reading .xlsx needs the extra excel: pip install 'mmgcs[excel]'") from None
    except Exception as error:  # fastexcel raises its own errors
        raise UsageError(f"{path} cannot be read as an Excel workbook; save it as CSV") from error
    check_columns(path, frame.columns)
    rows = (
        Row(values, place=f"row {number}", size=sum(len(str(value)) + CELL for value in values.values()))
        for number, values in enumerate(frame.iter_rows(named=True), 2)  # Excel's row numbers; the header is row 1
    )
    return Table(tuple(frame.columns), rows, lambda: 1.0, dict(frame.schema))
