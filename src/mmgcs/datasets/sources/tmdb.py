"""TMDB as published on Kaggle: the dump of 1.2 million films, and TMDB-5000."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from mmgcs.datasets.base import SOURCES, Source, numeric_ids, to_raw
from mmgcs.tables import Frame, read_frame, table_columns

_NAMES = {
    "id": ("id", "movie_id"),
    "title": ("title", "original_title"),
    "year": ("release_date",),
    "plot": ("overview",),
    "genres": ("genres",),
    "poster_path": ("poster_path",),
    "collection": ("belongs_to_collection", "collection"),
}


def _recognises(path: Path, columns: Sequence[str]) -> bool:
    return {"id", "overview", "genres"} <= set(columns) and bool({"release_date", "vote_average"} & set(columns))


def read_tmdb(path: Path) -> Frame:
    """Read the dump (genres as `A, B`) or TMDB-5000 (genres as a JSON list); both use the same column names.

    Raises:
        InputError: the file cannot be read or has no `id`, `overview` or `genres`.
    """
    expressions = to_raw(table_columns(path), _NAMES)
    required = [pl.col(name).alias(f"__{name}") for name in ("id", "overview", "genres")]
    raw = read_frame(path, [*expressions, *required])
    frame = raw.frame.select(pl.exclude("^__.*$")).with_columns(pl.lit("tmdb").alias("labels"))
    return numeric_ids(replace(raw, frame=frame), path)


SOURCES.register("tmdb")(Source("Kaggle's TMDB dump or TMDB-5000: a CSV file", _recognises, read_tmdb, rank=40))
