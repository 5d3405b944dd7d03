"""`mmgcs data inspect`: statistics of a table of films, and an HTML page of charts without external files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mmgcs.datasets.clean import label_sets, letters_only
from mmgcs.datasets.duplicates import near_duplicates
from mmgcs.datasets.sources import SPLITS, read_source
from mmgcs.files import atomic_writer

LENGTH_STEP = 10
LONGEST = 400
MOST_GENRES = 30
"""The most genres a chart shows, the most common first."""


def inspect_films(
    path: Path, out: Path | None, source: str = "auto", columns: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Compute the statistics of a data set, as `summarise` returns them, and write them as a page.

    Args:
        path: a table of films, or a published data set.
        out: the HTML file to write, or None.
        source: a name in `SOURCES`, or "auto".
        columns: film field to the column to read it from, for a table of your own.

    Raises:
        InputError: the data set cannot be read.
    """
    _, raw = read_source(path, source, columns)
    summary = summarise(raw.frame)
    if out is not None:
        with atomic_writer(out) as handle:
            handle.write(page(summary, path.name, len(raw.problems)))
    return summary


def summarise(films: pl.DataFrame) -> dict[str, Any]:
    """Compute the statistics of a table of films with the columns of `RAW_SCHEMA`.

    Returns:
        `films`: the number of films.
        `genres`: films per genre, the most common first.
        `together`: films that have both genres of a pair, a matrix in the order of `genres`.
        `genres_per_film`: films with 0, 1, 2… genres.
        `lengths`: films by the words in their plot, in steps of ten; the last step includes all longer ones.
        `years`: films per decade.
        `missing`: films without each field.
        `duplicates`: films with the id or plot of an earlier one, and pairs of near-duplicate plots.
        `splits`: films per split, in total and per genre.
    """
    labels = label_sets(films["genres"])
    per_set = np.bincount(labels.of_film, minlength=len(labels.sets)).astype(np.int64)
    sets = labels.sets.astype(np.int64)
    sizes = np.bincount(sets.sum(axis=1).astype(np.int64), weights=per_set).astype(np.int64)
    plots = films["plot"].filter(films["plot"].str.contains(r"\S").fill_null(False))
    letters = letters_only(plots)
    steps = plots.str.count_matches(r"\S+").clip(0, LONGEST) // LENGTH_STEP * LENGTH_STEP
    parts = {name: films.filter(pl.col("split") == name) for name in SPLITS}
    return {
        "films": films.height,
        "genres": labels.films_per_genre(),
        "together": (sets.T @ (sets * per_set[:, None])).tolist(),
        "genres_per_film": {str(size): count for size, count in enumerate(sizes.tolist())},
        "lengths": _value_counts(steps),
        "years": _value_counts(films["year"].drop_nulls() // 10 * 10),
        "missing": _missing(films),
        "duplicates": {
            "id": films.height - films["id"].n_unique() if films.height else 0,
            "plot": len(letters) - letters.n_unique(),
            "near-duplicate plot": len(near_duplicates(plots.filter(letters.is_first_distinct()))),
        },
        "splits": {
            name: {"films": part.height, **label_sets(part["genres"], labels.genres).films_per_genre()}
            for name, part in parts.items()
            if part.height
        },
    }


def _value_counts(values: pl.Series) -> dict[str, int]:
    counts = values.rename("value").value_counts(name="films").sort("value")
    return {str(value): films for value, films in counts.iter_rows()}


def _missing(films: pl.DataFrame) -> dict[str, int]:
    def lacks(name: str) -> pl.Expr:
        return ~pl.col(name).cast(pl.String).str.contains(r"\S").fill_null(False)

    parts = {name: lacks(name) for name in ("title", "year", "plot", "genres")}
    parts["poster"] = pl.all_horizontal(lacks(name) for name in ("poster", "poster_path", "poster_url"))
    parts["split"] = lacks("split")
    return {name: int(films.select(expression.sum()).item()) for name, expression in parts.items()}


def page(summary: Mapping[str, Any], name: str, broken: int = 0) -> str:
    """Return the page as HTML."""
    from mmgcs.templates import fill_template

    last = max(map(int, summary["lengths"]), default=0)
    lengths = {
        f"{step}+" if step >= LONGEST else str(step): summary["lengths"].get(str(step), 0)
        for step in range(0, last + 1, LENGTH_STEP)
    }
    charts = {
        "Films of each genre; a film counts for each of its genres": dict([*summary["genres"].items()][:MOST_GENRES]),
        "Genres per film": summary["genres_per_film"],
        "Words in a plot, in steps of ten; the last row includes all longer ones": lengths,
        "Films by decade of release": {f"{decade}s": count for decade, count in summary["years"].items()},
        "Films with missing fields": summary["missing"],
        "Duplicate ids and plots, and pairs of near-duplicate plots": summary["duplicates"],
    }
    template = Path(__file__).parent / "templates" / "inspect.html.j2"
    return fill_template(template, summary=summary, name=name, broken=broken, charts=charts, most_genres=MOST_GENRES)
