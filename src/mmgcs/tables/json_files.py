"""JSON lines, and JSON files that are one list of films or one film."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

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
    open_text,
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

PIECE = 2**20
"""Characters of a list that are read at a time."""

_BLANK = "\ufeff\x00\x1a \t\r\n"
_SEPARATORS = re.compile(rf"[{_BLANK},\]]*")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
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
    return Table(tuple(columns), _bounded(_rows(path, meter), dict(columns)), meter.share, scan=_scan_of(path))


def _scan_of(path: Path) -> Callable[[], pl.LazyFrame] | None:
    import polars as pl

    if _is_lines(path) and encoding_of(path) == ("utf-8", "\n"):
        return lambda: pl.scan_ndjson(path, infer_schema_length=None)
    return None


def _is_lines(path: Path) -> bool:
    """Return False for one list, or for objects that span several lines."""
    first = next((text for line in read_lines(path) if (text := line.text.strip(_BLANK))), "")
    return first[:1] != "[" and first != "{"


def _rows(path: Path, meter: Meter | None = None) -> Iterator[Row]:
    if _is_lines(path):
        for line in read_lines(path, meter):
            yield from _parse(line)
        return
    with open_text(path, meter) as text:
        for line in _split_values(text):
            yield from _parse(line)


def _bounded(rows: Iterator[Row], known: dict[str, None]) -> Iterator[Row]:
    """Yield rows; their new keys are added to `known` until it has MAX_COLUMNS."""
    for row in rows:
        if len(known) + len(row.values) > MAX_COLUMNS and len(known.keys() | row.values.keys()) > MAX_COLUMNS:
            problem = f"{row.place} has new keys, and the table has {MAX_COLUMNS:,} already; leave some out"
            yield Row({key: value for key, value in row.values.items() if key in known}, problem, (), row.place)
        else:
            known.update(dict.fromkeys(row.values))
            yield row


def _split_values(text: IO[str]) -> Iterator[Line]:
    """Yield each item of a JSON list, or each value of a file of several, as a line of its own."""
    decode = json.JSONDecoder().raw_decode
    buffer, number, in_list = "", 1, False
    next_film: re.Pattern[str] | None = None  # where the next film begins after a broken one
    while True:
        piece = text.read(max(PIECE, len(buffer)))
        buffer, position = buffer + without_surrogates(piece), 0
        while (start := _SEPARATORS.match(buffer, position).end()) < len(buffer):  # type: ignore[union-attr]
            number += buffer.count("\n", position, start)
            position = start
            if buffer[start] == "[" and not in_list and next_film is None:
                position, in_list = start + 1, True
                continue
            if next_film is None:
                margin = buffer[buffer.rfind("\n", 0, start) + 1 : start + 1]
                alone = not margin[:-1].strip() and "\n" in buffer[:start]
                next_film = re.compile("\n" + re.escape(margin) if alone or not in_list else r"\}\s*,\s*(?=\{)")
            try:
                end = decode(buffer, start)[1]
            except (ValueError, RecursionError) as error:
                long = len(buffer) - start > MAX_LINE
                if piece and not long and _is_cut(error, len(buffer)):
                    break
                found = next_film.search(buffer, start + 1)
                if found is None and piece and not long:
                    break
                end = len(buffer) if found is None else found.end() - (found[0][-1] == "{")
            yield Line(number, buffer[start:end], None, end - start > MAX_LINE)
            number += buffer.count("\n", start, end)
            position = end
        buffer = buffer[position:]
        if not piece:
            return


def _is_cut(error: ValueError | RecursionError, size: int) -> bool:
    """Return True if JSON could not be read because its text of this size ends too early."""
    return isinstance(error, json.JSONDecodeError) and (error.pos > size - 8 or error.msg.startswith("Unterminated"))


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
    # Roughly how much memory it becomes, in bytes.
    size = len(text) + 64 * text.count("[") + 192 * text.count("{") + CELL * text.count(",")
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
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
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


def _depth(text: str) -> int:
    """Return how deeply JSON is nested."""
    marks = re.findall(r"[\[{\]}]", _STRING.sub("", text))
    return max(itertools.accumulate(1 if mark in "[{" else -1 for mark in marks))
