"""JSON lines, and JSON files that are one list of films or one film."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmgcs.errors import UsageError
from mmgcs.tables.readers import MAX_COLUMNS, READERS, Table, check_columns
from mmgcs.tables.rows import ALIASES, sources_of
from mmgcs.tables.source import (
    CELL,
    MAX_LINE,
    Line,
    Meter,
    Row,
    encoding_of,
    open_table,
    read_lines,
    without_surrogates,
)

if TYPE_CHECKING:
    import polars as pl

SAMPLED = 1000
"""Films that are looked at for their columns."""

MAX_DEPTH = 100
"""How deeply lists and objects of one film may be nested."""

MAX_JSON_MEMORY = 64 * 2**20
"""Memory that one film's JSON may become, in bytes: `[[],[],…]` takes thirty times its text."""

_BLANK = "\ufeff\x00\x1a \t\r\n"
_TOKEN = re.compile(r'\\.|["\[\]{},\n]', re.DOTALL)
_PIECE = 2**20
_ID = re.compile(rf'"({"|".join(ALIASES["id"])})"\s*:\s*("(?:[^"\\]|\\.){{0,200}}"|-?\d{{1,30}}\b)', re.IGNORECASE)


@READERS.register(".jsonl", ".ndjson", ".json")
def read_json(path: Path, delimiter: str | None = None) -> Table:
    """Open JSON: one object per line, one list of objects, or one object.

    Raises:
        UsageError: there is no object among the first thousand films, or they have too many columns.
    """
    del delimiter  # JSON has none
    columns: dict[str, None] = {}
    why = "it is blank"
    for row in itertools.islice(_rows(path), SAMPLED):
        if row.problem is None:
            columns.update(dict.fromkeys(row.values))
            check_columns(path, columns)
        else:
            why = row.problem.split("; ")[0]
    if not columns:
        raise UsageError(
            f'{path} is not JSON lines ({why}); give one object per line, such as {{"id": 1, "plot": "…"}}'
        )
    meter = Meter(path)
    return Table(tuple(columns), _rows(path, dict(columns), meter), meter.share, scan=_scan_of(path))


def _scan_of(path: Path) -> Callable[[], pl.LazyFrame] | None:
    import polars as pl

    if _is_lines(path) and encoding_of(path) == ("utf-8", "\n"):
        return lambda: pl.scan_ndjson(path, infer_schema_length=None)
    return None


def _is_lines(path: Path) -> bool:
    """Return False for one list, or for objects that span several lines."""
    first = next((text for line in read_lines(path) if (text := line.text.strip(_BLANK))), "")
    return first[:1] != "[" and first != "{"


def _rows(path: Path, known: dict[str, None] | None = None, meter: Meter | None = None) -> Iterator[Row]:
    """Yield a file's rows; new keys are added to `known` until it has MAX_COLUMNS."""
    for line in read_lines(path, meter) if _is_lines(path) else _values(path, meter):
        for row in _parse(line):
            if known is None:
                yield row
                continue
            if len(known) + len(row.values) > MAX_COLUMNS and len(known.keys() | row.values.keys()) > MAX_COLUMNS:
                problem = f"{row.place} has new keys, and the table has {MAX_COLUMNS:,} already; leave some out"
                yield Row({key: value for key, value in row.values.items() if key in known}, problem, (), row.place)
                continue
            known.update(dict.fromkeys(row.values))
            yield row


def _pieces(path: Path, meter: Meter | None) -> Iterator[str]:
    """Yield a file's lines, the long ones in pieces that do not end within an escape."""
    with open_table(path, meter) as raw:
        text = io.TextIOWrapper(raw, encoding=encoding_of(path)[0], errors="replace")
        try:
            while piece := text.readline(_PIECE):
                while piece.endswith("\\") and (more := text.read(1)):
                    piece += more
                yield piece
        finally:
            text.detach()


def _values(path: Path, meter: Meter | None) -> Iterator[Line]:
    """Yield each item of a JSON list, or each value of a file of several, as a line of its own."""
    base: int | None = None  # how deep the films are: 1 in a list
    depth, quoted, parts, size = 0, False, [""], 0
    number = begin = 1
    margin: str | None = None  # what a line begins with that begins a film

    def item(*more: str) -> Iterator[Line]:
        whole = "".join([*parts, *more])
        if text := whole.strip(_BLANK):
            blank = len(whole) - len(whole.lstrip(_BLANK))
            yield Line(begin + whole[:blank].count("\n"), text, None, size > MAX_LINE)

    for piece in _pieces(path, meter):
        position = 0
        if base is not None and depth > base and margin is not None and piece.startswith(margin):
            yield from item()  # a film without its end; the next one begins here
            parts, size, begin, depth = [], 0, number, base
        for token in _TOKEN.finditer(piece):
            mark = token[0]
            if mark == "\n":
                number, quoted = number + 1, False  # JSON's texts have no line breaks
            elif mark == '"':
                quoted = not quoted
            elif quoted or mark[0] == "\\":
                continue
            elif base is None and mark == "[":
                base = depth = 1
                parts, position, begin = [], token.end(), number
            elif mark in "[{":
                base = base or 0
                if depth == base and margin is None and not piece[: token.start()].strip():
                    margin = piece[: token.end()]
                depth += 1
            else:
                depth -= mark in "]}"
                if base is None or depth > base:
                    continue
                end = token.end() if mark in "]}" and depth == base else token.start()
                yield from item(piece[position:end])
                parts, size, position, begin, depth = [], 0, token.end(), number, base
        rest = piece[position:]
        size += len(rest)
        if size <= MAX_LINE:
            parts.append(rest)
    yield from item()


def _parse(line: Line) -> Iterator[Row]:
    """Yield the film of a line of JSON; several if it is an object that only wraps a list of them."""
    text = line.text.strip(_BLANK)
    if not text:
        return
    warnings = (line.warning,) if line.warning is not None else ()
    place = f"line {line.number}"

    def broken(problem: str) -> Row:
        # The identifier of a film that cannot be read is kept, so that its row can be found.
        found = _ID.search(text[:10_000])
        return Row({found[1]: found[2].strip('"')} if found else {}, f"{place} {problem}", warnings, place)

    if line.cut:
        yield broken(f"is longer than {MAX_LINE // 2**20} MiB; fix the line")
        return
    size = _json_memory(text)
    if size > MAX_JSON_MEMORY:
        yield broken("holds more lists and values than a film has; fix the line")
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        position = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
        yield broken(f"is not JSON{position or ', or is nested too deeply'}; fix the line")
        return
    if not isinstance(value, dict):
        yield broken("is not a JSON object; give one object per line")
        return
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value):
        yield broken(f"is nested more than {MAX_DEPTH} deep; fix the line")
        return
    if "\\u" in text:
        value = without_surrogates(value)
    inner = next(iter(value.values())) if len(value) == 1 and not sources_of(tuple(value)) else None
    if isinstance(inner, list) and inner and all(isinstance(film, dict) for film in inner):
        for film in inner:
            yield Row(film, None, warnings, place, size // len(inner))
        return
    yield Row(value, None, warnings, place, size)


def _json_memory(text: str) -> int:
    """Return roughly how much memory a line of JSON becomes, in bytes."""
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
