"""`mmgcs data inspect`: the numbers of a table of films, and one HTML page of charts that needs no other file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mmgcs.datasets.base import SOURCES, SPLITS, detect_source
from mmgcs.datasets.clean import label_sets
from mmgcs.datasets.duplicates import near_duplicates
from mmgcs.files import atomic_writer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LENGTH_STEP = 10
LONGEST = 400
MOST_GENRES = 30
"""The most genres a chart shows, the most common first."""
BLUE, ORANGE, INK = "#2f6db3", "#d9822b", "#333333"


@dataclass(frozen=True, slots=True)
class DataSummary:
    """A table of films in numbers; every field is plain JSON.

    Attributes:
        films: the number of films.
        genres: films per genre, the most common first.
        together: for each pair of genres, in the order of `genres`, the films that have both; each genre's films on
            the diagonal.
        genres_per_film: how many films have 0, 1, 2… genres.
        lengths: films by words of their plot, in steps of ten; the last step holds all longer ones.
        years: films per decade.
        missing: films that lack each part.
        duplicates: films that share an id or a plot with an earlier one, and pairs of near-duplicate plots.
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
        """Return the numbers as a JSON object."""
        return asdict(self)


def inspect_films(path: Path, out: Path | None, source: str = "auto") -> DataSummary:
    """Summarise a data set's genres, co-occurrence, lengths, years, missing parts and duplicates, and write a page.

    Args:
        path: a table of films, or a data set that a reader knows.
        out: the page to write; None for none.
        source: the reader, or "auto".

    Raises:
        InputError: the data set cannot be read.
    """
    raw = SOURCES[detect_source(path) if source == "auto" else source].read(path)
    summary = summarise(raw.frame)
    if out is not None:
        with atomic_writer(out) as handle:
            handle.write(page(summary, path.name, len(raw.problems)))
    return summary


def summarise(films: pl.DataFrame) -> DataSummary:
    """Count what a table of films holds.

    Args:
        films: a table with the columns of `RAW_SCHEMA`, as the readers return it.
    """
    labels = label_sets(films["genres"])
    per_set = np.bincount(labels.of_film, minlength=len(labels.sets)).astype(np.int64)
    sets = labels.sets.astype(np.int64)
    sizes = np.bincount(sets.sum(axis=1).astype(np.int64), weights=per_set).astype(np.int64)
    plots = films["plot"].filter(films["plot"].str.contains(r"\S").fill_null(False))
    plain = plots.str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]+", "")
    steps = plots.str.count_matches(r"\S+").clip(0, LONGEST) // LENGTH_STEP * LENGTH_STEP
    return DataSummary(
        films=films.height,
        genres=dict(zip(labels.genres, labels.counts().tolist(), strict=True)),
        together=(sets.T @ (sets * per_set[:, None])).tolist(),
        genres_per_film={str(size): count for size, count in enumerate(sizes.tolist())},
        lengths=_value_counts(steps),
        years=_value_counts(films["year"].drop_nulls() // 10 * 10),
        missing=_missing(films),
        duplicates={
            "id": films.height - films["id"].n_unique() if films.height else 0,
            "plot": len(plain) - plain.n_unique(),
            "near-duplicate plot": len(near_duplicates(plots.filter(plain.is_first_distinct()))),
        },
        splits={
            name: {"films": part.height, **_genre_counts(part, labels.genres)}
            for name in SPLITS
            if (part := films.filter(pl.col("split") == name)).height
        },
    )


def _genre_counts(films: pl.DataFrame, genres: tuple[str, ...]) -> dict[str, int]:
    labels = label_sets(films["genres"], genres)
    return dict(zip(labels.genres, labels.counts().tolist(), strict=True))


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


def draw_charts(summary: DataSummary) -> dict[str, tuple[str, Figure]]:
    """Return the caption and figure of every chart, by name, in the page's order."""
    last = max((int(step) for step in summary.lengths), default=0)
    lengths = {
        f"{step}+" if step >= LONGEST else str(step): summary.lengths.get(str(step), 0)
        for step in range(0, last + 1, LENGTH_STEP)
    }
    decades = {f"{decade}s": count for decade, count in summary.years.items()}
    return {
        "genres": (
            "Films of each genre; a film counts for each of its genres.",
            _bars(dict(list(summary.genres.items())[:MOST_GENRES]), horizontal=True),
        ),
        "together": (
            "How often genres occur together: of the films with the row's genre, the percentage that also have the "
            "column's.",
            _co_occurrence(summary),
        ),
        "genres-per-film": ("How many genres films have.", _bars(summary.genres_per_film)),
        "lengths": ("Words in a plot, in steps of ten; the last bar holds all longer ones.", _bars(lengths)),
        "years": ("Films by decade of release.", _bars(decades)),
        "missing": ("Films that lack a part.", _bars(summary.missing, horizontal=True, colour=ORANGE)),
        "duplicates": (
            "Films that repeat an earlier film's id or plot, and pairs of plots that are nearly the same.",
            _bars(summary.duplicates, horizontal=True, colour=ORANGE),
        ),
    }


def _bars(counts: Mapping[str, int], *, horizontal: bool = False, colour: str = BLUE) -> Figure:
    from matplotlib.figure import Figure

    names, values = list(counts), list(counts.values())
    size = (7.0, max(1.6, 0.28 * len(names) + 0.6)) if horizontal else (7.0, 2.8)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    if horizontal:
        axes.barh(names, values, color=colour)
        axes.invert_yaxis()
        for row, value in enumerate(values):
            axes.annotate(f" {value:,}", (value, row), va="center", fontsize=8, color=INK)
        axes.margins(x=0.15)
        axes.xaxis.set_visible(False)
    else:
        axes.bar(names, values, color=colour)
        axes.tick_params(axis="x", rotation=90 if len(names) > 14 else 0, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _co_occurrence(summary: DataSummary) -> Figure:
    from matplotlib.figure import Figure

    names = list(summary.genres)[:MOST_GENRES]
    counts = np.array([row[: len(names)] for row in summary.together[: len(names)]], dtype=np.float64)
    shares = counts / np.maximum(1.0, np.diag(counts))[:, None] if len(names) else np.zeros((1, 1))
    np.fill_diagonal(shares, np.nan)
    side = max(3.0, 0.42 * len(names) + 1.2)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=max(0.01, float(np.nan_to_num(shares).max())))
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    for row, column in zip(*np.nonzero(np.nan_to_num(shares) >= 0.005), strict=True):
        share = shares[row, column]
        colour = "white" if share > 0.6 * np.nanmax(shares) else INK
        axes.text(column, row, f"{share * 100:.0f}", ha="center", va="center", fontsize=7, color=colour)
    return figure


def svg(figure: Figure) -> str:
    """Return a figure as an `<svg>` element that needs no other file and is the same every time."""
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "mmgcs"}):
        figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def page(summary: DataSummary, name: str, broken: int = 0) -> str:
    """Return the page as HTML."""
    from jinja2 import Environment, FileSystemLoader

    loader = FileSystemLoader(Path(__file__).parent / "templates")
    template = Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("inspect.html.j2")
    charts = {key: (caption, svg(figure)) for key, (caption, figure) in draw_charts(summary).items()}
    return template.render(summary=summary, name=name, broken=broken, charts=charts)
