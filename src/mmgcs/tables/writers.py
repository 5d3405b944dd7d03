"""Build output rows, and write them as CSV, TSV, JSON or Parquet, whole or not at all, in constant memory.

A writer is a function registered in `WRITERS` under its file extensions. It gets the rows and their columns, each with
its type: "text", "int", "float", "bool", "texts" (a list of text), a tuple of names (an object of numbers), or a polars
type.
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
from typing import TYPE_CHECKING, Any

from mmgcs.files import atomic_path
from mmgcs.film import Prediction
from mmgcs.registry import Registry
from mmgcs.tables.source import table_format

if TYPE_CHECKING:
    import polars as pl

ANSWER_COLUMNS = ("genres", "probabilities", "confidence", "sure", "error", "warnings", "inputs")
"""The columns appended to every row."""

Types = Mapping[str, Any]
"""Column to type; see above."""

Writer = Callable[[Iterable[Mapping[str, Any]], Path, Types], None]
"""Writes rows with the given columns to a path. Values may be missing; other columns are left out."""

WRITERS: Registry[Writer] = Registry("output format")

SEPARATORS = {"warnings": " | ", "reasons": " | ", "inputs": "+"}
"""What joins a list of text in a cell of CSV; `|` for all others, such as genres."""


class RecordBuilder:
    """Build output rows: the input's columns in their order, then `ANSWER_COLUMNS`.

    An input column that already has the name of one of ours is kept as `given_<name>`, so a table can be tagged again.

    Attributes:
        columns: input column to its name in the output.
        types: the type of each appended column, for `write_table`.
    """

    def __init__(self, columns: Sequence[str], genres: Sequence[str]) -> None:
        self.types: dict[str, Any] = dict.fromkeys(ANSWER_COLUMNS, "texts")
        self.types |= {"probabilities": tuple(genres), "confidence": "float", "sure": "bool", "error": "text"}
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
def write_json(rows: Iterable[Mapping[str, Any]], out: Path, types: Types) -> None:
    """Write one JSON list, a row per line."""
    del types
    with out.open("wb") as handle:
        handle.write(b"[")
        for number, row in enumerate(rows):
            handle.write((b",\n" if number else b"\n") + json_line(row).rstrip())
        handle.write(b"\n]\n")


def json_line(row: Mapping[str, Any]) -> bytes:
    """Return one row as a line of UTF-8 JSON."""
    return (json.dumps(_plain(row), ensure_ascii=False, allow_nan=False) + "\n").encode()


def _plain(value: Any) -> Any:
    """Return the value as JSON can hold it: dates and decimals as text, bytes as a note of their length."""
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
    with out.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, delimiter=delimiter, lineterminator="\n")
        header: list[str] = []
        for name, kind in types.items():
            header += [f"p_{genre}" for genre in kind] if isinstance(kind, tuple) else [name]
        writer.writerow(header)
        for row in rows:
            cells: list[str] = []
            for name, kind in types.items():
                value = row.get(name)
                if isinstance(kind, tuple):
                    cells += [_cell(name, (value or {}).get(genre)) for genre in kind]
                else:
                    cells.append(_cell(name, value))
            writer.writerow(cells)


WRITERS.register(".csv")(functools.partial(write_delimited, delimiter=","))
WRITERS.register(".tsv", ".tab", ".txt")(functools.partial(write_delimited, delimiter="\t"))


def _cell(name: str, value: Any) -> str:
    if _kind(value) == "texts":
        return SEPARATORS.get(name, "|").join(value)
    return _text(value) or ""


@WRITERS.register(".parquet", ".pq")
def write_parquet(rows: Iterable[Mapping[str, Any]], out: Path, types: Types) -> None:
    """Write Parquet: lists as lists, probabilities as a struct, columns of a Parquet input with their own types."""
    import polars as pl
    from polars.io.plugins import register_io_source

    named: dict[str, Any] = {
        "text": pl.String(),
        "int": pl.Int64(),
        "float": pl.Float64(),
        "bool": pl.Boolean(),
        "texts": pl.List(pl.String),
    }
    schema = pl.Schema()
    for name, kind in types.items():
        structure = pl.Struct(dict.fromkeys(kind, pl.Float64)) if isinstance(kind, tuple) else kind
        schema[name] = named[kind] if isinstance(kind, str) else structure
    # Pictures take more memory than everything else together.
    pictures = any(dtype == pl.Binary or dtype == pl.Struct for name, dtype in schema.items() if types[name] is dtype)
    size = 256 if pictures else 4096

    def batches(*_: Any) -> Iterator[pl.DataFrame]:  # the sink reads every column of every row
        remaining = iter(rows)
        while batch := list(islice(remaining, size)):
            yield pl.DataFrame(
                [
                    pl.Series(name, [_parquet_value(row.get(name), types[name]) for row in batch], dtype=dtype)
                    for name, dtype in schema.items()
                ]
            )

    try:
        register_io_source(batches, schema=schema).sink_parquet(
            out, compression="zstd", row_group_size=size, maintain_order=True, engine="streaming"
        )
    except pl.exceptions.PolarsError as error:
        raise OSError(str(error).splitlines()[0]) from error


def _parquet_value(value: Any, kind: Any) -> Any:
    if isinstance(kind, tuple):
        return value or None
    return _text(value) if kind == "text" else value


def infer_types(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> dict[str, str]:
    """Return the type of each column by the values it holds in all rows, for inputs that do not declare types.

    Args:
        rows: rows that may have further columns.
        columns: the columns that come first.
    """
    kinds: dict[str, set[str]] = {name: set() for name in columns}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                kinds.setdefault(name, set()).add(_kind(value))
    return {
        name: "float" if seen == {"int", "float"} else next(iter(seen)) if len(seen) == 1 else "text"
        for name, seen in kinds.items()
    }


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "text"  # no column of a table holds larger ones
    if isinstance(value, float):
        return "float"
    return "texts" if isinstance(value, list) and all(isinstance(item, str) for item in value) else "text"
