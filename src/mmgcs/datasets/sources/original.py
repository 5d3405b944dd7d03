"""The original system's own `strictly_balanced_top10.csv`: genres as a list in a string, and one-hot columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from mmgcs.datasets.base import SOURCES, Source, to_raw
from mmgcs.genres import LABEL_SETS, canonical
from mmgcs.tables import Frame, read_frame, table_columns

_NAMES = {
    "id": ("id", "tmdb_id", "movie_id", "imdb_id"),
    "title": ("title", "original_title"),
    "year": ("release_date", "year"),
    "plot": ("overview", "plot", "clean_overview", "description"),
    "genres": ("genres", "genre_list", "genre"),
    "poster_path": ("poster_path",),
    "poster_url": ("poster_url", "poster"),
}
_KNOWN = frozenset(canonical(genre) for genres in LABEL_SETS.values() for genre in genres)


def _one_hot_columns(columns: Sequence[str]) -> list[str]:
    return [name for name in columns if canonical(name.removeprefix("genre_")) in _KNOWN]


def read_original(path: Path) -> Frame:
    """Read the original's table. A film without a list of genres gets those of its one-hot columns."""
    columns = table_columns(path)
    named = [
        pl.when(pl.col(name).cast(pl.String).is_in(["1", "1.0", "True", "true"])).then(
            pl.lit(name.removeprefix("genre_"))
        )
        for name in _one_hot_columns(columns)
    ]
    hot = pl.concat_str(named, separator="|", ignore_nulls=True).alias("__hot")
    raw = read_frame(path, [*to_raw(columns, _NAMES), hot])
    listed = pl.col("genres").str.contains(r"\w")
    frame = raw.frame.with_columns(pl.when(listed).then("genres").otherwise("__hot").alias("genres"))
    frame = frame.drop("__hot").with_columns(labels=pl.lit("tmdb"))
    if frame["id"].null_count() == frame.height:  # the original's table has no ids
        frame = frame.with_columns(pl.int_range(1, pl.len() + 1).cast(pl.String).alias("id"))
    return replace(raw, frame=frame)


SOURCES.register("original")(
    Source(
        "the original's strictly_balanced_top10.csv (list strings, one-hot columns)",
        lambda path, columns: len(_one_hot_columns(columns)) >= 3 and bool(set(_NAMES["plot"]) & set(columns)),
        read_original,
        rank=20,
    )
)
