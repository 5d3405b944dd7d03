"""Build output rows, and write them as CSV, TSV, JSON or Parquet, whole or not at all, in constant memory.

A writer is a function registered in `WRITERS` by file extension. It takes the rows and the polars type of each column.
"""

from __future__ import annotations

import csv
import functools
import gzip
import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from mmgcs.files import atomic_path
from mmgcs.film import Prediction
from mmgcs.registry import Registry
from mmgcs.tables.source import table_format

ANSWER_COLUMNS = ("genres", "probabilities", "confidence", "sure", "error", "warnings", "inputs")
"""The columns appended to every row."""

TEXTS = pl.List(pl.String())

Types = Mapping[str, pl.DataType]
"""Column to type. A text column may hold values of any type; they are written as text or JSON."""

Writer = Callable[[Iterable[Mapping[str, Any]], Path, Types], None]
"""Writes the given columns of rows to a path. Rows may lack some of them."""

WRITERS: Registry[Writer] = Registry("output format")

SEPARATORS = {"warnings": " | ", "reasons": " | ", "inputs": "+"}
"""What joins lists of text in a CSV cell; `|` for all others, such as genres."""


class RecordBuilder:
    """Build output rows: the input's columns in their order, then `ANSWER_COLUMNS`.

    If an input column has the name of one of these, it becomes `given_<name>`, so a table can be tagged again.

    Attributes:
        columns: input column to its name in the output.
        types: the type of each appended column, for `write_table`.
    """

    def __init__(self, columns: Sequence[str], genres: Sequence[str]) -> None:
        self.types: dict[str, pl.DataType] = {
            "genres": TEXTS,
            "probabilities": pl.Struct(dict.fromkeys(genres, pl.Float64())),
            "confidence": pl.Float64(),
            "sure": pl.Boolean(),
            "error": pl.String(),
            "warnings": TEXTS,
            "inputs": TEXTS,
        }
        ours = {*ANSWER_COLUMNS, *(f"p_{genre}" for genre in genres)}  # p_<genre> is how CSV has probabilities
        self._taken = {*ours, *columns}
        self.columns = {name: self._free_name(name) if name in ours else name for name in columns}

    def build(self, record: Mapping[str, Any], prediction: Prediction) -> dict[str, Any]:
        """Return the output row of one film."""
        names = self.columns
        for name in record:
            if name not in names:  # lines of JSON may each have other keys
                names[name] = self._free_name(name)
        # A film in error, or one that kept its genres without being predicted, has no confidence.
        predicted = prediction.error is None and bool(prediction.inputs)
        return {
            **{names[name]: value for name, value in record.items()},
            "genres": list(prediction.genres),
            "probabilities": dict(prediction.probabilities),
            "confidence": prediction.confidence if predicted else None,
            "sure": prediction.sure if predicted else None,
            "error": prediction.error,
            "warnings": list(prediction.warnings),
            "inputs": list(prediction.inputs),
        }

    def _free_name(self, name: str) -> str:
        while name in self._taken:
            name = f"given_{name}"
        self._taken.add(name)
        return name


def write_table(rows: Iterable[Mapping[str, Any]], out: Path, types: Types) -> None:
    """Write rows as `out`, whole or not at all, compressed if its name ends in `.gz` or `.zst`.

    Raises:
        UsageError: there is no writer for that extension.
        OSError: the disk is full, or the file cannot be written.
    """
    suffix, compression = table_format(out)
    writer = WRITERS[suffix]
    with atomic_path(out) as temporary:
        if not compression:
            writer(rows, temporary, types)
            return
        text = temporary.with_suffix(".plain.part")
        try:
            writer(rows, text, types)
            # Without the time and name that gzip stores, the same films give the same bytes.
            with (
                text.open("rb") as source,
                temporary.open("wb") as raw,
                gzip.GzipFile("", "wb", 6, raw, mtime=0) if compression == ".gz" else _zstd(raw) as target,
            ):
                shutil.copyfileobj(source, target)
        finally:
            text.unlink(missing_ok=True)


def _zstd(raw: Any) -> Any:
    from backports import zstd

    return zstd.ZstdFile(raw, "w")


@WRITERS.register(".jsonl", ".ndjson")
def write_jsonl(rows: Iterable[Mapping[str, Any]], out: Path, types: Types) -> None:
    """Write one JSON object per row, with every column it has."""
    del types
    with out.open("wb") as handle:
        handle.writelines(map(json_line, rows))


@WRITERS.register(".json")
def write_json_rows(rows: Iterable[Mapping[str, Any]], out: Path, types: Types) -> None:
    """Write one JSON list, a row per line."""
    del types
    with out.open("wb") as handle:
        handle.write(b"[")
        for number, row in enumerate(rows):
            handle.write((b",\n" if number else b"\n") + json_line(row).rstrip())
        handle.write(b"\n]\n")


def json_line(row: Mapping[str, Any]) -> bytes:
    """Return a row as a line of UTF-8 JSON."""
    return (json.dumps(_plain(row), ensure_ascii=False, allow_nan=False) + "\n").encode()


def _plain(value: Any) -> Any:
    """Convert a value to JSON types: dates and decimals to text, bytes to a note of their length."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, bytes | bytearray):
        return f"({len(value)} bytes)"
    return str(value)


def _text(value: Any) -> str | None:
    value = _plain(value)
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def write_delimited(rows: Iterable[Mapping[str, Any]], out: Path, types: Types, delimiter: str) -> None:
    """Write CSV or TSV: genres as `A|B`, each probability in a column `p_<genre>`."""
    cells: list[tuple[str, str | None]] = []  # column, and the genre whose probability it holds
    for name, kind in types.items():
        if name == "probabilities" and isinstance(kind, pl.Struct):
            cells += [(name, field.name) for field in kind.fields]
        else:
            cells.append((name, None))
    with out.open("w", encoding="utf-8", newline="") as handle:
        usual = csv.writer(handle, delimiter=delimiter, lineterminator="\n")
        quoted = csv.writer(handle, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
        usual.writerow(name if genre is None else f"p_{genre}" for name, genre in cells)
        for row in rows:
            line = [
                as_cell(name, row.get(name) if genre is None else (row.get(name) or {}).get(genre))
                for name, genre in cells
            ]
            # The csv module may not quote a carriage return, and other programs would end the row there.
            (quoted if any("\r" in cell for cell in line) else usual).writerow(line)


WRITERS.register(".csv")(functools.partial(write_delimited, delimiter=","))
WRITERS.register(".tsv", ".tab", ".txt")(functools.partial(write_delimited, delimiter="\t"))


def as_cell(name: str, value: Any) -> str:
    """Return the value of a column as one cell of a delimited file; "" for None."""
    if _is_texts(value):
        return SEPARATORS.get(name, "|").join(value)
    return _text(value) or ""


@WRITERS.register(".parquet", ".pq")
def write_parquet(rows: Iterable[Mapping[str, Any]], out: Path, types: Types) -> None:
    """Write Parquet: lists as lists, probabilities as a struct, columns of a Parquet input with their own types."""
    # Posters take far more memory than the other columns.
    pictures = any(kind in (pl.Binary, pl.Struct) for name, kind in types.items() if name != "probabilities")
    size = 256 if pictures else 4096

    def batches(*_: Any) -> Iterator[pl.DataFrame]:  # the arguments select columns and rows, but the sink needs all
        remaining = iter(rows)
        while batch := list(islice(remaining, size)):
            yield to_frame(batch, types)

    try:
        register_io_source(batches, schema=pl.Schema(types)).sink_parquet(
            out, compression="zstd", row_group_size=size, maintain_order=True, engine="streaming"
        )
    except pl.exceptions.PolarsError as error:
        raise OSError(str(error).splitlines()[0]) from error


def to_frame(rows: Sequence[Mapping[str, Any]], types: Types) -> pl.DataFrame:
    """Return rows as a frame with columns of these types."""

    def value(row: Mapping[str, Any], name: str, kind: pl.DataType) -> Any:
        if name == "probabilities":
            return row.get(name) or None
        return _text(row.get(name)) if kind == pl.String else row.get(name)

    return pl.DataFrame(
        [pl.Series(name, [value(row, name, kind) for row in rows], dtype=kind) for name, kind in types.items()]
    )


def infer_types(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> dict[str, pl.DataType]:
    """Infer the type of each column from its values, for inputs that do not declare types.

    Args:
        rows: rows that may have further columns.
        columns: the columns that come first.
    """
    found: dict[str, set[pl.DataType]] = {name: set() for name in columns}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                found.setdefault(name, set()).add(_type_of(value))
    numbers = {pl.Int64(), pl.Float64()}
    return {
        name: next(iter(types)) if len(types) == 1 else pl.Float64() if types == numbers else pl.String()
        for name, types in found.items()
    }


def _type_of(value: Any) -> pl.DataType:
    if isinstance(value, bool):
        return pl.Boolean()
    if isinstance(value, int) and -(2**63) <= value < 2**63:  # larger ones become text
        return pl.Int64()
    if isinstance(value, float):
        return pl.Float64()
    return TEXTS if _is_texts(value) else pl.String()


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
