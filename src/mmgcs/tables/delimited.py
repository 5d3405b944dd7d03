"""Read CSV and TSV in all common dialects, row by row, so that a damaged row does not affect the others.

Python's csv module parses the records, because polars refuses a whole file for one broken row. The dialect (delimiter,
quotes, backslashes) is the one that turns most of the first lines into valid rows.
"""

from __future__ import annotations

import csv
import functools
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import polars as pl

from mmgcs.errors import UsageError
from mmgcs.tables.readers import READERS, Table, check_columns
from mmgcs.tables.rows import sources_of
from mmgcs.tables.source import BLANK, CELL, MAX_LINE, Line, Meter, Row, encoding_of, read_lines

MAX_RECORD = 4 * 2**20
"""The most characters of a record that spans several lines; in a longer one, a quote was never closed."""

_NAMES = {"\\t": "\t", "tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}

csv.field_size_limit(MAX_LINE + MAX_RECORD)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How fields are written.

    Attributes:
        delimiter: what separates fields.
        quoted: False if quotation marks are ordinary characters, as in most TSV.
        escaped: True if a backslash escapes the next character, as MySQL writes it.
        spaced: True if spaces follow delimiters.
    """

    delimiter: str
    quoted: bool = True
    escaped: bool = False
    spaced: bool = False

    def parse(self, lines: Iterator[str]) -> Iterator[list[str]]:
        """Yield records. Raises csv.Error for a quote that is never closed, or in the wrong place."""
        if self.escaped:
            null = re.compile(rf"(?:(?<=^)|(?<={re.escape(self.delimiter)}))\\N(?=[\r\n{re.escape(self.delimiter)}]|$)")
            lines = (null.sub("", line) for line in lines)
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            escapechar="\\" if self.escaped else None,
            skipinitialspace=self.spaced,
            strict=True,
        )

    def parse_line(self, text: str) -> list[str]:
        """Return the fields of one line; [] if it is not a complete record."""
        try:
            return next(self.parse(iter([text])), [])
        except csv.Error:
            return []


class _Record(NamedTuple):
    lines: list[Line]
    fields: list[str]
    broken: bool = False
    warning: str | None = None


class _RowShape:
    """What a row looks like, learned from the first lines of a file.

    A stray quote can merge many rows into one record. A line inside a record is a row of its own if it has the right
    number of fields, and its first id, year or the like looks as it does elsewhere.
    """

    def __init__(self, sample: Sequence[Line], dialect: Dialect, width: int) -> None:
        self._dialect, self._width = dialect, width
        records = _records(iter(sample), dialect, width)
        rows = [record.fields for record in records if not record.broken and len(record.fields) == width]
        self._keys: dict[int, set[tuple[bool, ...]]] = {}
        for column in range(width):
            shapes = Counter(_shape(row[column]) for row in rows if row[column].strip())
            common = {shape for shape, count in shapes.items() if count >= max(1, 0.05 * len(rows))}
            if common and all(digit and not space for space, digit, _, _ in common):
                self._keys[column] = common

    def match(self, text: str, *, last: bool) -> bool | None:
        """Return True if a line of a record is a row, False if not, None if it has the right width but may be either.

        `last` is True for the record's last line. It ends with fields of the record, so only the fields before its
        first quote can tell.
        """
        delimiter = self._dialect.delimiter
        if self._width < 2 or text.count(delimiter) < self._width - 1:
            return False
        fields = one_line(text, self._dialect, self._width)
        if len(fields) != self._width:
            return False
        before = text.partition('"')[0].count(delimiter) if last else self._width - 1
        if before and not self._dialect.spaced and all(cell.startswith(" ") for cell in fields[1 : before + 1]):
            return False  # the commas of a sentence
        known = [column for column in self._keys if column < before + (not last) and fields[column].strip()]
        if known:
            return _shape(fields[known[0]]) in self._keys[known[0]]
        return None if last or not self._keys else False


def _shape(cell: str) -> tuple[bool, ...]:
    cell = cell.strip()
    tests = (str.isspace, str.isdigit, str.isalpha)
    return (*(any(map(test, cell)) for test in tests), not all(map(str.isalnum, cell)))


def one_line(text: str, dialect: Dialect, width: int) -> list[str]:
    """Return the fields of a line with broken quotes, read in the first way that gives the right number of them."""
    text = text.rstrip("\r\n").replace("\r", " ")
    quotes = [place for place, mark in enumerate(text) if mark == '"'][:50] if dialect.quoted else []
    ways = itertools.chain(
        ((other, text) for other in (dialect, replace(dialect, escaped=True))),
        ((dialect, text[:place] + text[place + 1 :]) for place in quotes),  # without one of the quotes
        [(replace(dialect, quoted=False, escaped=False), text)],
    )
    for other, line in ways:
        fields = _trimmed(other.parse_line(line), width)
        if len(fields) == width:
            return fields
    return text.split(dialect.delimiter)


def _trimmed(fields: list[str], width: int) -> list[str]:
    """Drop the empty fields that trailing delimiters add."""
    return fields[:width] if len(fields) > width and not any(fields[width:]) else fields


def _records(lines: Iterator[Line], dialect: Dialect, width: int, sample: Sequence[Line] = ()) -> Iterator[_Record]:
    shape = _RowShape(sample, dialect, width) if sample and dialect.quoted else None
    taken: list[Line] = []  # the lines of the current record
    again: list[Line] = []  # lines to read again, in reverse

    def feed() -> Iterator[str]:
        size = 0
        while (line := again.pop() if again else next(lines, None)) is not None:
            size = len(line.text) + (size if taken else 0)
            taken.append(line)
            yield line.text
            if size > MAX_RECORD and len(taken) > 1:
                raise csv.Error("the quote was never closed")

    parsed = dialect.parse(feed())
    while True:
        taken.clear()
        warning = None
        try:
            fields = _trimmed(next(parsed), width)
            end = taken[-1].number
            inside = [shape.match(line.text, last=line.number == end) for line in taken[1:]] if shape else []
            broken = any(inside) or (len(inside) > 0 and len(fields) != width)
            if None in inside and not broken:
                warning = f"lines {taken[0].number} to {end} were read as one film; check the quotes"
        except StopIteration:
            return
        except csv.Error:
            broken = True
        if broken:
            # Read the first line alone, so that its stray quote does not swallow the films after it.
            line, *rest = taken
            taken[:] = [line]
            again += reversed(rest)
            fields = one_line(line.text, dialect, width)
            warning = f"line {line.number} has broken quotes; check the plot"
            parsed = dialect.parse(feed())
        if fields and (len(fields) > 1 or fields[0].strip(BLANK)):
            yield _Record(list(taken), fields, broken, warning)


def detect_dialect(sample: Sequence[Line], given: str | None, usual: str) -> Dialect:
    """Return the dialect in which most lines of a sample are valid rows; see `read_csv` for `given` and `usual`."""

    def header(delimiter: str) -> list[str]:
        return Dialect(delimiter, spaced=True).parse_line(sample[0].text)

    def score(dialect: Dialect) -> float:
        width = len(header(dialect.delimiter)) if dialect.quoted else sample[0].text.count(dialect.delimiter) + 1
        records = _records(iter(sample), dialect, width, sample[1:])
        sound = sum(len(record.lines) for record in records if not record.broken and len(record.fields) == width)
        # Apart from TSV, files without quoting are rare, so a few stray quotes do not suggest it.
        return sound if dialect.quoted or dialect.delimiter == "\t" else sound - 1 - 0.02 * len(sample)

    def likelihood(delimiter: str) -> tuple[int, float, int, bool]:
        names = header(delimiter)
        return len(sources_of(names)), score(Dialect(delimiter)), len(names), delimiter == usual

    delimiter = given or max((",", ";", "\t", "|"), key=likelihood)
    flags = list(itertools.product((True, False), (False, True), (False, True)))  # quoted, escaped, spaced
    if delimiter == "\t" and _looks_unquoted(sample):
        flags.insert(0, (False, False, False))

    def fit(dialect: Dialect) -> tuple[int, float]:
        return len(sources_of(dialect.parse_line(sample[0].text))), score(dialect)

    return max((Dialect(delimiter, *chosen) for chosen in flags), key=fit)


def _looks_unquoted(sample: Sequence[Line]) -> bool:
    """Return True for TSV in which some cells are in quotes needlessly, but no whole column is."""
    rows = [line.text.rstrip("\r\n").split("\t") for line in sample]
    if any('"' in cell for cell in rows[0]) or any('""' in cell for row in rows for cell in row):
        return False
    columns = [[cell.startswith('"') for cell in column if cell] for column in itertools.zip_longest(*rows[1:])]
    return any(map(any, columns)) and not any(quoted and all(quoted) for quoted in columns)


def read_csv(path: Path, delimiter: str | None = None, usual: str = ",") -> Table:
    """Open delimited text; the delimiter is detected unless given.

    Args:
        path: the file.
        delimiter: the delimiter the user gave.
        usual: the delimiter that the extension suggests.

    Raises:
        UsageError: there is no header, a column occurs twice, or there are too many.
    """
    given = _NAMES.get(delimiter, delimiter) if delimiter is not None else None
    if given is not None and (len(given) != 1 or given in '"\r\n'):
        raise UsageError(f"--delimiter {given} is not one character; give for example --delimiter ';' or tab")
    meter = Meter(path)
    lines = itertools.dropwhile(lambda line: not line.text.strip(BLANK), read_lines(path, meter))
    first = next(lines, None)
    if first is not None and (excel := re.fullmatch(r"\"?sep=(.)\"?\s*", first.text, re.IGNORECASE)):
        given, first = given or excel[1], next(lines, None)  # such a line tells Excel the delimiter
    if first is None:
        raise UsageError(f"{path} is empty; give a table with a header and at least one film")
    sample, size = [first], len(first.text)
    while len(sample) < 500 and size <= 2**20 and (line := next(lines, None)) is not None:
        sample.append(line)
        size += len(line.text)
    dialect = detect_dialect(sample, given, usual)
    header = dialect.parse_line(first.text) or next(_records(iter(sample), dialect, 0)).fields
    names = [name.strip().replace("\x00", "") for name in header]
    unnamed = [*names, ""].index("")  # the first; without names of their own, its values would be lost to the others
    columns = tuple(name or ("" if place == unnamed else f"column_{place + 1}") for place, name in enumerate(names))
    check_columns(path, columns)
    records = _records(itertools.chain(sample, lines), dialect, len(columns), sample[1:])
    next(records)  # the header
    plain = dialect == Dialect(dialect.delimiter) and first.number == 1 and encoding_of(path)[1] == "\n"

    def scan() -> pl.LazyFrame:
        return pl.scan_csv(
            path,
            separator=dialect.delimiter,
            infer_schema=False,
            glob=False,
            extra_columns="raise",
            with_column_names=lambda names: list(columns) if len(names) == len(columns) else names,
        )

    types = dict.fromkeys(columns, pl.String())
    rows = (_row(record, columns) for record in records)
    return Table(columns, rows, meter.share, types, scan if plain else None, dialect.delimiter)


READERS.register(".csv")(read_csv)
READERS.register(".tsv", ".tab", ".txt")(functools.partial(read_csv, usual="\t"))


def _row(record: _Record, columns: tuple[str, ...]) -> Row:
    width = len(columns)
    place = f"line {record.lines[0].number}"
    fields, problem = record.fields, None
    warnings = [
        warning for warning in (*(line.warning for line in record.lines), record.warning) if warning is not None
    ]
    if any("\x00" in field for field in fields):
        fields = [field.replace("\x00", "") for field in fields]
        warnings.append(f"{place} has NUL bytes; they were removed")
    if any(line.cut for line in record.lines):
        problem = f"{place} is longer than {MAX_LINE // 2**20} MiB; fix the row"
    elif len(fields) != width:
        surplus = ", ".join(map(repr, fields[width : width + 100]))[:200]
        surplus = f" (too many: {surplus})" if surplus else ""
        problem = f"{place} has {len(fields)} fields where the header has {width}{surplus}; fix the row"
    values = dict(itertools.zip_longest(columns, fields[:width]))
    return Row(values, problem, tuple(warnings), place, sum(map(len, fields)) + width * CELL)
