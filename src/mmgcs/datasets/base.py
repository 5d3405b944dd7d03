"""Readers of labelled data sets: what one is, and the registry of them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mmgcs.errors import InputError, UsageError
from mmgcs.registry import Registry
from mmgcs.tables import Frame, table_columns

RAW_SCHEMA: Mapping[str, pl.DataType] = {
    "id": pl.String(),
    "title": pl.String(),
    "year": pl.Int32(),
    **dict.fromkeys(("plot", "genres", "poster", "poster_path", "poster_url", "collection"), pl.String()),
    **dict.fromkeys(("labels", "split", "language", "cohort"), pl.String()),
}
"""The columns that every reader returns. `genres` is as the source spells it (any form that `mmgcs.genres` parses);
`poster` is a file in the folder of posters, `poster_path` a path at TMDB, `poster_url` a whole address; `collection` is
the name of the series if the source knows it; `language` and `cohort` are kept for `mmgcs evaluate --by`."""

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class Source:
    """A published data set that can be read.

    Attributes:
        about: a description, for messages.
        recognises: returns True if a path looks like this data set, from its columns (empty for a folder).
        read: reads it: one row per film, with the columns of `RAW_SCHEMA` and None for missing values.
        rank: if several sources recognise a path, the lowest rank reads it: low for a particular shape.
    """

    about: str
    recognises: Callable[[Path, Sequence[str]], bool]
    read: Callable[[Path], Frame]
    rank: int = 100


SOURCES: Registry[Source] = Registry("data source")


def detect_source(path: Path) -> str:
    """Return the name of the source that `path` looks like.

    Raises:
        InputError: no reader recognises it.
        UsageError: it does not exist or cannot be read.
    """

    def detect(columns: Sequence[str]) -> str | None:
        names = sorted(SOURCES, key=lambda name: SOURCES[name].rank)
        return next((name for name in names if SOURCES[name].recognises(path, columns)), None)

    columns: list[str] = []
    found = detect(columns) if path.is_dir() else None  # MM-IMDb's folder is no table
    if found is None:
        with contextlib.suppress(UsageError) if path.is_dir() else contextlib.nullcontext():
            columns = table_columns(path)
        found = detect(columns)
    if found is not None:
        return found
    what = f"its columns are {', '.join(columns[:12])}" if columns else "the folder has no <id>.json files and no table"
    sources = "; ".join(f"{name}, {SOURCES[name].about}" for name in SOURCES)
    raise InputError(f"{path} is not a known data set ({what}); say which it is with --from: {sources}")


def to_raw(columns: Sequence[str], names: Mapping[str, Sequence[str]]) -> list[pl.Expr]:
    """Return expressions that turn a source's columns into those of `RAW_SCHEMA`.

    Args:
        columns: the columns that the source has.
        names: for each column of ours, the source's names for it, best first; ours without one stay empty.
    """
    expressions = []

    def text(name: str) -> pl.Expr:
        return pl.col(name).map_batches(_as_text, return_dtype=pl.String)

    for ours, dtype in RAW_SCHEMA.items():
        theirs = [name for name in names.get(ours, ()) if name in columns]
        if not theirs:
            expressions.append(pl.lit(None, dtype=dtype).alias(ours))
        elif ours == "year":
            # A release date begins with the year in every source; MovieLens and Excel may write 1999.0.
            year = text(theirs[0]).str.extract(r"(\d{4})").cast(pl.Int32, strict=False)
            expressions.append(pl.when(year.is_between(1870, 2100)).then(year).alias(ours))
        else:
            expressions.append(pl.coalesce(text(name) for name in theirs).alias(ours))
    return expressions


def _as_text(values: pl.Series) -> pl.Series:
    """Return values of any type as text: lists of names as `A|B`, other nested values as JSON."""
    if isinstance(values.dtype, pl.Struct) and [field.name[:1] for field in values.dtype.fields] == ["$"]:
        values = values.struct.field(values.dtype.fields[0].name)  # MongoDB's extended JSON, such as {"$oid": "573a…"}
    if values.dtype == pl.List(pl.String):
        return values.list.join("|")
    if not values.dtype.is_nested():
        return values.cast(pl.String)
    texts = [
        None if value is None else json.dumps(value, ensure_ascii=False, default=str) for value in values.to_list()
    ]
    return pl.Series(values.name, texts, dtype=pl.String)
