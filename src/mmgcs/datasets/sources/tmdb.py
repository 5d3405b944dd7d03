"""TMDB as published on Kaggle (the dump of 1.2 million films, and TMDB-5000), and MovieLens' The Movies Dataset."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mmgcs.datasets.base import SOURCES, Source, to_raw
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


def read_tmdb(path: Path) -> Frame:
    """Read the dump (genres as `A, B`), TMDB-5000 (genres as a JSON list) or MovieLens (Python-style lists).

    Rows whose id is not a number are pieces of broken rows, which the published files have; they are only counted.
    """
    raw = read_frame(path, to_raw(table_columns(path), _NAMES))
    # MovieLens' collection is a Python-style dictionary; its name is what a series shares.
    collection = pl.col("collection")
    names = [collection.str.extract(rf"'name':\s*{quote}([^{quote}]+){quote}") for quote in ("'", '"')]
    plain = pl.when(~collection.str.contains(r"^\s*\{")).then(collection)
    sound = raw.frame["id"].str.contains(r"^\d+(\.0)?$").fill_null(False)
    frame = raw.frame.filter(sound).with_columns(
        pl.col("id").str.strip_suffix(".0"), pl.coalesce(*names, plain).alias("collection"), labels=pl.lit("tmdb")
    )
    broken = (f"{path.name}, record {row + 1}" for row in (~sound).arg_true())
    return Frame(frame, (*raw.problems, *broken))


SOURCES.register("tmdb")(
    Source(
        "Kaggle's TMDB dump or TMDB-5000: a CSV file",
        lambda path, columns: (
            {"id", "overview", "genres"} <= set(columns) and bool({"release_date", "vote_average"} & set(columns))
        ),
        read_tmdb,
        rank=40,
    )
)
SOURCES.register("movielens")(
    Source(
        "MovieLens' The Movies Dataset: movies_metadata.csv",
        lambda path, columns: {"id", "overview", "genres", "belongs_to_collection", "imdb_id"} <= set(columns),
        read_tmdb,
        rank=30,
    )
)
