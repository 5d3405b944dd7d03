"""Charts of a table of films, as matplotlib figures that any page can show."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from mmgcs.datasets.summary import LENGTH_STEP, LONGEST, Summary
from mmgcs.registry import Registry

BLUE, ORANGE, INK = "#2f6db3", "#d9822b", "#333333"
MOST_GENRES = 30
"""Genres that a chart shows at most: the commonest."""

CHARTS: Registry[Callable[[Summary], Figure]] = Registry("chart")
"""Each chart by the name that pages use, in the order in which they show them; the docstring is its caption."""


def draw_charts(summary: Summary) -> dict[str, tuple[str, Figure]]:
    """Every chart's caption and figure, by name."""
    return {name: ((CHARTS[name].__doc__ or name).strip(), CHARTS[name](summary)) for name in CHARTS.in_order()}


def svg(figure: Figure) -> str:
    """A figure as an `<svg>` element that needs no other file, and is the same each time."""
    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "mmgcs"}):
        figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _bars(counts: Mapping[str, int], *, horizontal: bool = False, colour: str = BLUE) -> Figure:
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


@CHARTS.register("genres")
def genre_chart(summary: Summary) -> Figure:
    """Films of each genre; a film counts for each of its genres."""
    return _bars(dict(list(summary.genres.items())[:MOST_GENRES]), horizontal=True)


@CHARTS.register("together")
def together_chart(summary: Summary) -> Figure:
    """How often genres come together: of the films with the row's genre, the share that has the column's too."""
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


@CHARTS.register("genres-per-film")
def genres_per_film_chart(summary: Summary) -> Figure:
    """How many genres films have."""
    return _bars(summary.genres_per_film)


@CHARTS.register("lengths")
def length_chart(summary: Summary) -> Figure:
    """Words in a plot, in steps of ten; the last bar holds all longer ones."""
    last = max((int(step) for step in summary.lengths), default=0)
    steps = range(0, last + 1, LENGTH_STEP)
    return _bars({f"{step}+" if step >= LONGEST else str(step): summary.lengths.get(str(step), 0) for step in steps})


@CHARTS.register("years")
def year_chart(summary: Summary) -> Figure:
    """Films by decade of release."""
    return _bars({f"{decade}s": count for decade, count in summary.years.items()})


@CHARTS.register("missing")
def missing_chart(summary: Summary) -> Figure:
    """Films that lack a part."""
    return _bars(summary.missing, horizontal=True, colour=ORANGE)


@CHARTS.register("duplicates")
def duplicate_chart(summary: Summary) -> Figure:
    """Films whose id or plot came before, and pairs of plots that are nearly the same."""
    return _bars(summary.duplicates, horizontal=True, colour=ORANGE)
