"""Readers of tables: each turns a file into rows, one at a time, and loses none.

Each is registered in `formats.py`. CSV is read by the standard
library rather than by polars, because polars refuses a whole file for one broken row, or silently pads and cuts; the
standard library lets each broken row be reported in its place, at some 300,000 rows a second.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgcs.errors import UsageError
from mmgcs.registry import Registry
from mmgcs.tables.source import CELL, MAX_LINE, Line, Meter, Row, read_lines, without_surrogates

MAX_RECORD = 4 * 2**20
"""Characters that one quoted record may span over several lines; past this its quote was never closed."""

SAMPLED = 1000
"""Lines of a JSONL file that are looked at for its columns."""

MAX_COLUMNS = 10_000
"""Columns that a table may have; more are lines of data without a header, or damage."""

MAX_DEPTH = 100
"""Lists and objects that may lie within each other in a line of JSON: what reads them later calls itself for each."""

MAX_JSON_MEMORY = 64 * 2**20
"""Bytes of memory that a line of JSON may become: `[[],[],…]` takes thirty times its text."""

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}

csv.field_size_limit(MAX_LINE + MAX_RECORD)


@dataclass(frozen=True, slots=True)
class Opened:
    """A table whose header was read.

    Attributes:
        columns: its columns; for JSONL those of its first thousand lines.
        rows: its rows; can be taken once.
        share: the share of the table that was read so far, 0 to 1.
        types: column to its type for `write_table`; None if the format does not say (JSON lines).
    """

    columns: tuple[str, ...]
    rows: Iterator[Row]
    share: Callable[[], float]
    types: Mapping[str, Any] | None = None


Reader = Callable[[Path, str | None], Opened]
"""Opens a table, with the delimiter that the user gave, if any."""

READERS: Registry[Reader] = Registry("table format")


def read_csv(path: Path, delimiter: str | None = None) -> Opened:
    """Open comma-separated values.

    Raises:
        UsageError: there is no header, a column occurs twice, there are too many, or the delimiter is another one.
    """
    return _read_delimited(path, delimiter or ",")


def read_tsv(path: Path, delimiter: str | None = None) -> Opened:
    """Open tab-separated values; raises as `read_csv` does."""
    return _read_delimited(path, delimiter or "\t")


def _read_delimited(path: Path, delimiter: str) -> Opened:
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise UsageError(f"{delimiter!r} is not a delimiter; give one character such as ';'")
    meter = Meter(path)
    records = _records(path, delimiter, meter)
    try:
        _, header, problem, _ = next(records)
    except StopIteration:
        raise UsageError(f"{path} is empty; give a table with a header and at least one film") from None
    if problem is not None:
        raise UsageError(f"{path} has a broken header ({problem}); mend its first line")
    columns = tuple(name.strip().replace("\x00", "") for name in header)
    _check_header(path, columns, delimiter)
    return Opened(columns, _rows(records, columns), meter.share, dict.fromkeys(columns, "text"))


def _check_header(path: Path, columns: tuple[str, ...], delimiter: str) -> None:
    if len(columns) == 1:
        counts = {other: columns[0].count(other) for other in DELIMITERS if other != delimiter}
        likely = max(counts, key=lambda other: counts[other])
        if counts[likely]:
            given = DELIMITERS.get(delimiter, repr(delimiter))
            raise UsageError(
                f"{path} seems to be separated by a {DELIMITERS[likely]}, not a {given}; "
                f"give mmgcs tag --delimiter {likely!r}, or save it with commas"
            )
    _check_number(path, columns)
    twice = sorted(name for name, times in Counter(columns).items() if name and times > 1)
    if twice:
        raise UsageError(f"{path} has the column {twice[0]!r} more than once; rename one of them")


def _check_number(path: Path, columns: Collection[str]) -> None:
    if len(columns) > MAX_COLUMNS:
        raise UsageError(f"{path} has more than {MAX_COLUMNS:,} columns; leave out those that tell nothing of a film")


def _rows(records: Iterator[_Record], columns: tuple[str, ...]) -> Iterator[Row]:
    width = len(columns)
    for place, fields, problem, warnings in records:
        if problem is None and len(fields) != width:
            surplus = ", ".join(map(repr, fields[width : width + 100]))[:200]
            surplus = f" (too many: {surplus})" if surplus else ""
            problem = f"{place} has {len(fields)} fields where the header has {width}{surplus}; mend the row"
        values: dict[str, Any] = dict(zip(columns, fields, strict=False))
        if len(fields) < width:
            values.update(dict.fromkeys(columns[len(fields) :]))
        yield Row(values, problem, warnings, place, sum(map(len, fields)) + len(values) * CELL)


_Record = tuple[str, list[str], str | None, tuple[str, ...]]
"""Place ("line 7"), fields, problem, warnings."""


class _UnclosedError(Exception):
    """A quoted record grew past MAX_RECORD."""


class _Feed:
    """Lines for csv.reader that remembers which lines the record being read took, and can take them back."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._again: list[Line] = []  # in reverse
        self.taken: list[Line] = []
        self._size = 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        if self._size > MAX_RECORD and len(self.taken) > 1:
            raise _UnclosedError
        line = self._again.pop() if self._again else next(self._lines)
        self.taken.append(line)
        self._size += len(line.text)
        return line.text

    def start(self) -> None:
        """A new record begins."""
        self.taken = []
        self._size = 0

    def give_back(self) -> Line:
        """Return the record's first line and put the others back."""
        first, *others = self.taken
        self._again.extend(reversed(others))
        return first


def _records(path: Path, delimiter: str, meter: Meter) -> Iterator[_Record]:
    # A strict reader notices a quote that is closed in the wrong place. Then the record's first line is taken alone,
    # so that one stray quote costs its own line and does not swallow the films after it.
    feed = _Feed(read_lines(path, meter))
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    width = None  # of the header, which is the first record
    while True:
        feed.start()
        problem = None
        extra: tuple[str, ...] = ()
        broken = False
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (csv.Error, _UnclosedError):
            broken = True
        else:
            broken = width is not None and _swallowed(feed.taken, len(fields), width, delimiter)
        if broken:
            line = feed.give_back()
            feed.taken = [line]
            fields, problem = _lenient(line, delimiter)
            extra = (f"line {line.number} has broken quotes; check the plot",)
        if not fields or (len(fields) == 1 and not fields[0].strip("\ufeff\x00\x1a \t\r\n")):
            continue  # a blank line, or the end-of-file mark of old systems
        width = width or len(fields)
        taken = feed.taken
        if any(line.cut for line in taken):
            problem = f"line {taken[0].number} is longer than {MAX_LINE // 2**20} MiB; mend the row"
        noted = tuple(line.warning for line in taken if line.warning is not None)
        if any("\x00" in field for field in fields):
            fields = [field.replace("\x00", "") for field in fields]
            noted += (f"line {taken[0].number} has NUL bytes; they were removed",)
        yield f"line {taken[0].number}", fields, problem, noted + extra


def _swallowed(taken: list[Line], fields: int, width: int, delimiter: str) -> bool:
    """Whether a stray quote, "closed" by another one films later, made one record of many."""
    if len(taken) > 1 and fields != width:
        return True
    inner = taken[1:-1]
    return len(inner) > 2 and width > 2 and all(line.text.count(delimiter) == width - 1 for line in inner)


def _lenient(line: Line, delimiter: str) -> tuple[list[str], str | None]:
    try:
        return next(csv.reader([line.text], delimiter=delimiter)), None
    except (csv.Error, StopIteration) as error:
        return line.text.rstrip("\r\n").split(delimiter), f"line {line.number} cannot be read ({error}); mend the row"


def read_jsonl(path: Path, delimiter: str | None = None) -> Opened:
    """Open one JSON object a line.

    Raises:
        UsageError: no line among the first thousand holds an object, as in a file that is one JSON list, or they have
            too many columns.
    """
    del delimiter  # JSON has none
    columns: dict[str, None] = {}
    why = "it is blank"
    for line in read_lines(path):
        row = _json_row(line)
        if row is not None:
            why = (row.problem or why).split("; ")[0]
            columns.update(dict.fromkeys(row.values))
            _check_number(path, columns)
        if line.number >= SAMPLED:
            break
    if not columns:
        raise UsageError(f'{path} is not JSON lines ({why}); give one object a line, such as {{"id": 1, "plot": "…"}}')
    meter = Meter(path)
    rows = (row for line in read_lines(path, meter) if (row := _json_row(line)) is not None)
    return Opened(tuple(columns), rows, meter.share)


def _json_row(line: Line) -> Row | None:
    text = line.text.strip("\x00\x1a \t\r\n")
    if not text:
        return None
    warnings = (line.warning,) if line.warning is not None else ()
    place = f"line {line.number}"
    if line.cut:
        return Row({}, f"{place} is longer than {MAX_LINE // 2**20} MiB; mend the line", warnings, place)
    size = _json_memory(text)
    if size > MAX_JSON_MEMORY:
        return Row({}, f"{place} holds more lists and values than a film has; mend the line", warnings, place)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply or a number too long"
        return Row({}, f"{place} is not JSON ({reason}); mend the line", warnings, place)
    if not isinstance(value, dict):
        return Row({}, f"{place} is not a JSON object; give one object a line", warnings, place)
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value):
        return Row({}, f"{place} is nested more than {MAX_DEPTH} deep; mend the line", warnings, place)
    return Row(without_surrogates(value) if "\\u" in text else value, None, warnings, place, size)


def _json_memory(text: str) -> int:
    """Bytes of memory that a line of JSON becomes, about: of its texts, and of each list, object and value in it."""
    return len(text) + 64 * text.count("[") + 192 * text.count("{") + CELL * text.count(",")


def _is_deep(value: Any) -> bool:
    inner = [value]
    for _ in range(MAX_DEPTH):
        if not inner:
            return False
        inner = [
            item
            for outer in inner
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, dict | list)
        ]
    return bool(inner)


def read_parquet(path: Path, delimiter: str | None = None) -> Opened:
    """Open a Parquet file.

    Raises:
        UsageError: it is not one, is cut short, or has too many columns.
    """
    del delimiter  # Parquet has none
    import polars as pl

    try:
        frame = pl.scan_parquet(path, glob=False)
        schema = frame.collect_schema()
        columns = tuple(schema.names())
        total = int(frame.select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise UsageError(f"{path} cannot be read as Parquet ({_first_line(error)}); get the file again") from error
    _check_number(path, columns)
    done = _Done()
    return Opened(columns, _parquet_rows(path, columns, done), lambda: done.rows / max(1, total), dict(schema))


@dataclass(slots=True)
class _Done:
    rows: int = 0


def _parquet_rows(path: Path, columns: tuple[str, ...], done: _Done) -> Iterator[Row]:
    import polars as pl

    try:
        for batch in pl.scan_parquet(path, glob=False, low_memory=True).collect_batches(
            chunk_size=4096, maintain_order=True, lazy=True
        ):
            for values in batch.iter_rows():
                done.rows += 1
                size = sum(len(value) if isinstance(value, str | bytes) else CELL for value in values)
                yield Row(dict(zip(columns, values, strict=True)), place=f"row {done.rows}", size=size)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise UsageError(f"{path} is damaged ({_first_line(error)}); get the file again") from error


def _first_line(error: Any) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
