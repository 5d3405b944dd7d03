"""Read JSON Lines, and JSON files that hold one film or a list of films."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmgcs.errors import UsageError
from mmgcs.tables.readers import MAX_COLUMNS, READERS, Table, check_columns
from mmgcs.tables.rows import ALIASES, sources_of
from mmgcs.tables.source import BLANK, CELL, MAX_LINE, Line, Meter, Row, open_text, read_lines
from mmgcs.tables.source import without_surrogates as clean

MAX_DEPTH = 100
"""The deepest nesting of lists and objects in one film."""

_SEPARATORS = re.compile(rf"[{BLANK},\]]*")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_ID = re.compile(rf'"({"|".join(ALIASES["id"])})"\s*:\s*("(?:[^"\\]|\\.){{0,200}}"|-?\d{{1,30}}\b)', re.IGNORECASE)


@READERS.register(".jsonl", ".ndjson", ".json")
def read_json(path: Path, delimiter: str | None = None) -> Table:
    """Open JSON: one object per line, a list of objects, or one object.

    Raises:
        UsageError: there is no object among the first thousand films, or they have too many columns.
    """
    del delimiter  # JSON has none
    # One list, or objects that span several lines, are not JSON lines.
    first = next((text for line in read_lines(path) if (text := line.text.strip(BLANK))), "")
    lines = first[:1] != "[" and first != "{"
    columns: dict[str, None] = {}
    why = ""
    for row in itertools.islice(_rows(path, lines), 1000):
        if row.problem is None:
            columns.update(dict.fromkeys(row.values))
            check_columns(path, columns)
        else:
            why = row.problem.split("; ")[0]
    if not columns and not why:
        raise UsageError(f"{path} has no films; give a table with at least one")
    if not columns:
        raise UsageError(
            f'{path} is not JSON lines ({why}); give one object per line, such as {{"id": 1, "plot": "…"}}'
        )
    meter = Meter(path)
    return Table(tuple(columns), _bounded(_rows(path, lines, meter), columns), meter.share)


def _rows(path: Path, lines: bool, meter: Meter | None = None) -> Iterator[Row]:
    return itertools.chain.from_iterable(map(_parse, (read_lines if lines else _split_values)(path, meter)))


def _bounded(rows: Iterator[Row], columns: dict[str, None]) -> Iterator[Row]:
    """Yield rows; once the table has MAX_COLUMNS columns, rows with new keys are refused."""
    known = dict(columns)
    for row in rows:
        if len(known) + len(row.values) > MAX_COLUMNS and len(known.keys() | row.values.keys()) > MAX_COLUMNS:
            problem = f"{row.place} has new keys, but the table already has {MAX_COLUMNS:,}; leave some out"
            yield Row({key: value for key, value in row.values.items() if key in known}, problem, (), row.place)
        else:
            known.update(dict.fromkeys(row.values))
            yield row


def _split_values(path: Path, meter: Meter | None = None) -> Iterator[Line]:
    """Yield each item of a JSON list, or each value of a file with several, as a line."""
    decode = json.JSONDecoder().raw_decode
    buffer, number, in_list = "", 1, False
    next_film: re.Pattern[str] | None = None  # where the next film begins after a broken one
    with open_text(path, meter) as text:
        while True:
            piece = text.read(max(2**20, len(buffer)))
            buffer, position = buffer + clean(piece), 0
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
                    # Near the end of the buffer, the value may just be incomplete.
                    cut = isinstance(error, json.JSONDecodeError) and (
                        error.pos > len(buffer) - 8 or error.msg.startswith("Unterminated")
                    )
                    found = next_film.search(buffer, start + 1)
                    if piece and (cut or found is None) and len(buffer) - start <= MAX_LINE:
                        break
                    end = len(buffer) if found is None else found.end() - (found[0][-1] == "{")
                yield Line(number, buffer[start:end], None, end - start > MAX_LINE)
                number += buffer.count("\n", start, end)
                position = end
            buffer = buffer[position:]
            if not piece:
                return


def _parse(line: Line) -> Iterator[Row]:
    """Yield the film in a line of JSON, or several if it is an object that only wraps a list of films."""
    text = line.text.strip(BLANK)
    if not text:
        return
    warnings = (line.warning,) if line.warning is not None else ()
    place = f"line {line.number}"
    # Roughly the memory it takes once decoded, in bytes.
    size = len(text) + 64 * text.count("[") + 192 * text.count("{") + CELL * text.count(",")
    value, problem = _decode(text, line.cut, size)
    if problem is not None:
        # Keep the id of an unreadable film, so that its row can be found.
        found = _ID.search(text[:10_000])
        yield Row({found[1]: found[2].strip('"')} if found else {}, f"{place} {problem}", warnings, place)
        return
    inner = [] if sources_of(tuple(value)) else [item for item in value.values() if _is_films(item)]
    films = inner[0] if len(inner) == 1 else [value]
    for film in films:
        yield Row(film, None, warnings, place, size // len(films))


def _is_films(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(film, dict) for film in value)


def _decode(text: str, cut: bool, size: int) -> tuple[dict[str, Any], str | None]:
    """Return the decoded JSON object and None, or {} and the problem with it."""
    if cut:
        return {}, f"is longer than {MAX_LINE // 2**20} MiB; fix the line"
    if size > 64 * 2**20:  # text such as `[[],[],…]` takes thirty times its length in memory
        return {}, "has too many lists and values; fix the line"
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return {}, f"is not JSON at character {error.pos + 1}; fix the line"
    except (ValueError, RecursionError):
        return {}, "is not JSON, or is nested too deeply; fix the line"
    if not isinstance(value, dict):
        return {}, "is not a JSON object; give one object per line"
    if text.count("[") + text.count("{") > MAX_DEPTH:
        marks = re.findall(r"[\[{\]}]", _STRING.sub("", text))
        if max(itertools.accumulate(1 if mark in "[{" else -1 for mark in marks)) > MAX_DEPTH:
            return {}, f"is nested more than {MAX_DEPTH} deep; fix the line"
    return (clean(value) if "\\u" in text else value), None
