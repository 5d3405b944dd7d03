"""Writers of tagged films: from the records of a finished run to a file of the format that was asked for.

A run writes JSON lines as it goes (they can be appended to and continued); a writer turns them into the format at
the end, in constant memory. Each is registered in `formats.py`.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmgcs.files import atomic_path
from mmgcs.registry import Registry
from mmgcs.tables.records import FIXED
from mmgcs.tables.source import table_format

if TYPE_CHECKING:
    import polars as pl

BATCH = 4096
"""Records a Parquet row group is made of."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The columns that an output has besides the fixed ones.

    Attributes:
        genres: the bundle's genres, which name the probabilities.
        columns: the kept input columns, in their order, each with the kinds of value seen in it: of "int", "float",
            "bool", "str" and "json".
    """

    genres: Sequence[str]
    columns: Mapping[str, Sequence[str]]


Writer = Callable[[Path, Path, Kept], None]
"""Turns the JSON lines in the first path into the second."""

WRITERS: Registry[Writer] = Registry("output format")

ListWriter = Callable[[Iterable[Mapping[str, Any]], Path, Sequence[str]], None]
"""Writes rows with the given columns to a path."""

LISTS: Registry[ListWriter] = Registry("list format")


def kind_of(value: Any) -> str | None:
    """The kind of a kept value; None of a missing one. An integer past 64 bits, which no column holds, is text."""
    if value is None:
        return None
    if type(value) is int and not is_int64(value):
        return "str"
    return {bool: "bool", int: "int", float: "float", str: "str"}.get(type(value), "json")


def is_int64(value: int) -> bool:
    """Whether an integer fits into a column of 64 bits."""
    return -(2**63) <= value < 2**63


def write_table(records: Path, out: Path, kept: Kept) -> None:
    """Write the records of a run as `out`, whole or not at all, gzipped where the name ends in `.gz`.

    Raises:
        UsageError: there is no writer for that extension.
    """
    writer = WRITERS[table_format(out)[0]]
    with _finished(out) as temporary:
        writer(records, temporary, kept)


def write_list(rows: Iterable[Mapping[str, Any]], out: Path, columns: Sequence[str]) -> None:
    """Write rows that are no films' records (a list for review, say) as `out`, whole or not at all.

    Raises:
        UsageError: there is no such list format.
    """
    writer = LISTS[table_format(out)[0]]
    with _finished(out) as temporary:
        writer(rows, temporary, columns)


@contextlib.contextmanager
def _finished(out: Path) -> Iterator[Path]:
    """A path to write to, which becomes `out`, gzipped where that name ends in `.gz`."""
    with atomic_path(out) as temporary:
        if not table_format(out)[1]:
            yield temporary
            return
        plain = temporary.with_name(f"{temporary.name}.plain")
        try:
            yield plain
            # Without the time and name that gzip stores, the same films give the same bytes.
            with (
                plain.open("rb") as source,
                temporary.open("wb") as raw,
                gzip.GzipFile("", "wb", 6, raw, mtime=0) as target,
            ):
                shutil.copyfileobj(source, target)
        finally:
            plain.unlink(missing_ok=True)


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records that a run wrote."""
    with path.open("rb") as handle:
        for line in handle:
            yield json.loads(line)


def write_jsonl(records: Path, out: Path, kept: Kept) -> None:
    """One JSON object a film."""
    del kept
    shutil.copyfile(records, out)


def write_csv(records: Path, out: Path, kept: Kept) -> None:
    """Comma-separated values: genres as `A|B`, each probability in a column `p_<genre>`."""
    _write_delimited(records, out, kept, ",")


def write_tsv(records: Path, out: Path, kept: Kept) -> None:
    """Tab-separated values with the columns of CSV."""
    _write_delimited(records, out, kept, "\t")


def _write_delimited(records: Path, out: Path, kept: Kept, delimiter: str) -> None:
    with out.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, delimiter=delimiter, lineterminator="\n")
        probabilities = [f"p_{genre}" for genre in kept.genres]
        before = [name for name in FIXED if name != "probabilities"]
        writer.writerow([*before, *probabilities, *kept.columns])
        for row in read_records(records):
            cells = [_cell(name, row[name]) for name in before]
            cells += [_number(row["probabilities"].get(genre)) for genre in kept.genres]
            cells += [_cell(name, row.get(name)) for name in kept.columns]
            writer.writerow(cells)


_JOINED = {
    **dict.fromkeys(("genres", "given_genres", "possible", "add", "remove"), "|"),
    "inputs": "+",
    **dict.fromkeys(("warnings", "reasons"), " | "),
}


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in _JOINED and isinstance(value, list):
        return _JOINED[name].join(map(str, value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _number(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)


def write_jsonl_list(rows: Iterable[Mapping[str, Any]], out: Path, columns: Sequence[str]) -> None:
    """One JSON object a row."""
    with out.open("wb") as handle:
        for row in rows:
            handle.write(json_line({name: row.get(name) for name in columns}))


def write_csv_list(rows: Iterable[Mapping[str, Any]], out: Path, columns: Sequence[str]) -> None:
    """Comma-separated values with a header; lists are joined as in tables."""
    _write_delimited_list(rows, out, columns, ",")


def write_tsv_list(rows: Iterable[Mapping[str, Any]], out: Path, columns: Sequence[str]) -> None:
    """Tab-separated values, else as CSV."""
    _write_delimited_list(rows, out, columns, "\t")


def _write_delimited_list(rows: Iterable[Mapping[str, Any]], out: Path, columns: Sequence[str], delimiter: str) -> None:
    with out.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, delimiter=delimiter, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(name, row.get(name)) for name in columns] for row in rows)


def write_parquet(records: Path, out: Path, kept: Kept) -> None:
    """Parquet: genres as a list, probabilities as a struct with one field a genre, kept columns by the values seen."""
    from polars.io.plugins import register_io_source

    schema = _schema(kept)

    def batches(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        del with_columns, predicate, n_rows, batch_size  # the sink asks for everything
        rows: list[dict[str, Any]] = []
        for row in read_records(records):
            rows.append(row)
            if len(rows) == BATCH:
                yield _frame(rows, schema)
                rows = []
        if rows:
            yield _frame(rows, schema)

    register_io_source(batches, schema=schema).sink_parquet(
        out, compression="zstd", row_group_size=BATCH, maintain_order=True, engine="streaming"
    )


def _schema(kept: Kept) -> pl.Schema:
    import polars as pl

    texts = pl.List(pl.String)
    fixed: dict[str, pl.DataType] = {
        "id": pl.String(),
        "genres": texts,
        "probabilities": pl.Struct({genre: pl.Float64() for genre in kept.genres}),
        "error": pl.String(),
        "warnings": texts,
        "inputs": texts,
        "confidence": pl.Float64(),
        "sure": pl.Boolean(),
        "given_genres": texts,
    }
    simple: dict[frozenset[str], pl.DataType] = {
        frozenset({"int"}): pl.Int64(),
        frozenset({"float"}): pl.Float64(),
        frozenset({"int", "float"}): pl.Float64(),
        frozenset({"bool"}): pl.Boolean(),
    }
    others = {name: simple.get(frozenset(kinds), pl.String()) for name, kinds in kept.columns.items()}
    return pl.Schema({**fixed, **others})


def _frame(rows: Sequence[Mapping[str, Any]], schema: pl.Schema) -> pl.DataFrame:
    import polars as pl

    columns = {}
    for name, kind in schema.items():
        values = [row.get(name) for row in rows]
        if name == "probabilities":
            values = [value or None for value in values]
        elif kind == pl.String:
            values = [_text(value) for value in values]
        elif kind == pl.Int64:
            values = [value if value is None or is_int64(value) else None for value in values]
        columns[name] = pl.Series(name, values, dtype=kind, strict=False)
    return pl.DataFrame(columns, schema=schema)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def json_line(value: Mapping[str, Any]) -> bytes:
    """One record as a line of UTF-8 JSON."""
    return (json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(", ", ": ")) + "\n").encode()
