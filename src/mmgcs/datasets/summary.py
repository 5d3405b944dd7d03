"""What a table of films holds, in numbers: the facts behind the charts of `mmgcs data inspect` and of the web page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from mmgcs.datasets.base import SPLITS
from mmgcs.datasets.clean import label_sets
from mmgcs.datasets.duplicates import near_duplicates

LENGTH_STEP = 10
LONGEST = 400


@dataclass(frozen=True, slots=True)
class Summary:
    """A table of films in numbers; every field is plain JSON.

    Attributes:
        films: how many films.
        genres: films of each genre, the commonest first.
        together: for each pair of genres, in the order of `genres`, the films that have both; the diagonal has each
            genre's films.
        genres_per_film: how many films have 0, 1, 2… genres.
        lengths: films by words of their plot, in steps of ten; the last step holds all longer ones.
        years: films by decade.
        missing: films that lack each part.
        duplicates: films that share an id or a plot with an earlier one, and near-duplicate plots (pairs).
        splits: films of each split, and of each genre in it.
    """

    films: int
    genres: dict[str, int]
    together: list[list[int]]
    genres_per_film: dict[str, int]
    lengths: dict[str, int]
    years: dict[str, int]
    missing: dict[str, int]
    duplicates: dict[str, int]
    splits: dict[str, dict[str, int]]

    def to_json(self) -> dict[str, Any]:
        """The numbers as a JSON object."""
        return asdict(self)


def summarise(films: pl.DataFrame) -> Summary:
    """Count what a table of films holds.

    Args:
        films: a table with the columns of `RAW_SCHEMA`, as the readers give it.
    """
    labels = label_sets(films["genres"])
    per_set = np.bincount(labels.of_film, minlength=len(labels.sets)).astype(np.int64)
    sets = labels.sets.astype(np.int64)
    together = sets.T @ (sets * per_set[:, None])
    sizes = np.bincount(sets.sum(axis=1).astype(np.int64), weights=per_set).astype(np.int64)
    plots = films["plot"].filter(films["plot"].str.contains(r"\S").fill_null(False))
    plain = plots.str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]+", "")
    return Summary(
        films=films.height,
        genres=dict(zip(labels.genres, labels.counts().tolist(), strict=True)),
        together=together.tolist(),
        genres_per_film={str(size): count for size, count in enumerate(sizes.tolist())},
        lengths=_lengths(plots),
        years=_decades(films["year"]),
        missing=_missing(films),
        duplicates={
            "id": films.height - films["id"].n_unique() if films.height else 0,
            "plot": len(plain) - plain.n_unique(),
            "near-duplicate plot": len(near_duplicates(plots.filter(plain.is_first_distinct()))),
        },
        splits={
            name: {"films": part.height, **_genre_counts(part["genres"], labels.genres)}
            for name in SPLITS
            if (part := films.filter(pl.col("split") == name)).height
        },
    )


def _genre_counts(column: pl.Series, genres: tuple[str, ...]) -> dict[str, int]:
    labels = label_sets(column, genres)
    return dict(zip(labels.genres, labels.counts().tolist(), strict=True))


def _lengths(plots: pl.Series) -> dict[str, int]:
    words = plots.str.count_matches(r"\S+").clip(0, LONGEST)
    counts = (words // LENGTH_STEP * LENGTH_STEP).value_counts(name="films").sort(plots.name or "plot")
    return {str(step): count for step, count in counts.iter_rows()}


def _decades(years: pl.Series) -> dict[str, int]:
    decades = (years.drop_nulls() // 10 * 10).rename("decade")
    return {str(decade): count for decade, count in decades.value_counts(name="films").sort("decade").iter_rows()}


def _missing(films: pl.DataFrame) -> dict[str, int]:
    def lacks(name: str) -> pl.Expr:
        return ~pl.col(name).cast(pl.String).str.contains(r"\S").fill_null(False)

    poster = pl.all_horizontal(lacks(name) for name in ("poster", "poster_path", "poster_url"))
    parts = {name: lacks(name) for name in ("title", "year", "plot", "genres")} | {
        "poster": poster,
        "split": lacks("split"),
    }
    return {name: int(films.select(expression.sum()).item()) for name, expression in parts.items()}
