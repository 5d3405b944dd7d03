"""MovieLens "The Movies Dataset": `movies_metadata.csv`, with Python-style lists and a few broken rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from mmgcs.datasets.base import SOURCES, Source, numeric_ids, to_raw
from mmgcs.tables import Frame, read_frame, table_columns

_NAMES = {
    "id": ("id",),
    "title": ("title", "original_title"),
    "year": ("release_date",),
    "plot": ("overview",),
    "genres": ("genres",),
    "poster_path": ("poster_path",),
    "collection": ("belongs_to_collection",),
}


def _recognises(path: Path, columns: Sequence[str]) -> bool:
    return {"id", "overview", "genres", "belongs_to_collection", "imdb_id"} <= set(columns)


def read_movielens(path: Path) -> Frame:
    """Read `movies_metadata.csv`. Rows that are broken in the published file (a date as id) are only counted.

    Raises:
        InputError: the file cannot be read.
    """
    raw = read_frame(path, to_raw(table_columns(path), _NAMES))
    # The collection is a Python-style dictionary; its name is what a series shares.
    name = pl.col("collection").str.extract(r"""'name':\s*(?:'([^']+)'|")""", 1)
    quoted = pl.col("collection").str.extract(r"""'name':\s*"([^"]+)\"""", 1)
    named = pl.coalesce(name, quoted).alias("collection")
    frame = raw.frame.with_columns(named, pl.lit("tmdb").alias("labels"))
    return numeric_ids(replace(raw, frame=frame), path)


SOURCES.register("movielens")(
    Source("MovieLens' The Movies Dataset: movies_metadata.csv", _recognises, read_movielens, rank=30)
)
