"""The report's figures, as SVG that takes the colour of the page's text and so suits light and dark."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mmgcs.evaluation.metrics import Estimate
from mmgcs.evaluation.report import ConditionReport, Report

_INK = "#010203"  # stands for the page's text colour, see _svg
_OURS = "#3d7eea"
_THEIRS = "#d9822b"
_FADED = "#8b93a1"
_COLOURS = (_OURS, "#19a974", _THEIRS, "#9d6bdb", _FADED, "#d6486f")
_STYLE = {
    "font.size": 9.0,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a genre may hold a dollar sign
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "axes.titlecolor", "xtick.color", "ytick.color"), _INK
    ),
    **dict.fromkeys(("axes.facecolor", "figure.facecolor"), "none"),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **dict.fromkeys(("axes.linewidth", "grid.linewidth"), 0.6),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), 8.0),
    "axes.titlesize": 9.0,
    "grid.color": _FADED,
    "grid.alpha": 0.25,
}


def draw_report(report: Report, detailed: Sequence[ConditionReport]) -> dict[str, str]:
    """Return all figures of a report as SVG elements, by the names that the report's template gives them."""
    with matplotlib.rc_context(_STYLE):
        figures = {"coverage": _coverage(report)}
        for number, condition in enumerate(detailed):
            figures[f"{number}-f1"] = _genre_scores(condition)
            figures[f"{number}-precision"] = _precision_recall(condition)
            figures[f"{number}-calibration"] = _calibration(condition)
            figures[f"{number}-confusions"] = _confusions(condition)
        return {name: _svg(figure, f"figure-{name}") for name, figure in figures.items()}


def _genre_scores(condition: ConditionReport) -> Figure:
    """Draw F1 of each genre with its interval, the baseline's beside it."""
    genres = sorted(condition.tuned.genres, key=lambda genre: genre.f1.value or 0.0)
    figure = Figure(figsize=(7.2, 0.7 + 0.34 * len(genres)), layout="constrained")
    axes = figure.subplots()
    theirs = {genre.genre: genre.f1 for genre in condition.baseline.scores.genres} if condition.baseline else {}
    for row, genre in enumerate(genres):
        if genre.f1.low is not None and genre.f1.high is not None:
            axes.plot([genre.f1.low, genre.f1.high], [row, row], color=_OURS, linewidth=5, alpha=0.35)
        if genre.genre in theirs:
            axes.plot([_number(theirs[genre.genre])], [row], "D", color=_THEIRS, markersize=5)
        axes.plot([_number(genre.f1)], [row], "o", color=_OURS, markersize=7)
    axes.plot([], [], "o", color=_OURS, markersize=7, label="this model, 95% interval")
    if theirs:
        axes.plot([], [], "D", color=_THEIRS, markersize=5, label="TF-IDF baseline")
    axes.set_yticks(range(len(genres)), [f"{genre.genre}  ({genre.support:,})" for genre in genres])
    axes.set_xlim(0, 1)
    axes.set_xlabel("F1 (films that have the genre in brackets)")
    axes.grid(axis="x")
    axes.legend(loc="upper left")
    return figure


def _precision_recall(condition: ConditionReport) -> Figure:
    """Draw precision against recall, one panel per genre, the baseline's beside it."""
    figure, panels = _panels(len(condition.tuned.genres), "recall", "precision")
    recalls = np.linspace(0.01, 1.0, 100)
    for axes, genre in zip(panels, condition.tuned.genres, strict=True):
        average = genre.average_precision.value
        axes.set_title(genre.genre + (f" · AP {average:.2f}" if average is not None else ""))
        if condition.baseline and (curve := condition.baseline.precision[genre.genre]):
            axes.plot(recalls, curve, color=_THEIRS, linewidth=1.0)
        if curve := condition.curves["precision"][genre.genre]:
            axes.plot(recalls, curve, color=_OURS, linewidth=1.6)
        axes.plot([_number(genre.recall)], [_number(genre.precision)], "o", color=_OURS, markersize=4)
        axes.axhline(genre.support / condition.tuned.films, color=_FADED, linewidth=0.8, linestyle=":")
    return figure


def _calibration(condition: ConditionReport) -> Figure:
    """Draw the share of films that have a genre against its probability, one panel per genre."""
    figure, panels = _panels(len(condition.tuned.genres), "probability", "share that has it")
    for axes, genre in zip(panels, condition.tuned.genres, strict=True):
        axes.set_title(f"{genre.genre} · ECE {genre.ece_equal_mass:.3f}")
        axes.plot([0, 1], [0, 1], color=_FADED, linewidth=0.8, linestyle=":")
        bins = condition.curves["reliability"][genre.genre]
        # Two standard errors of a share of so few films: a point whose bar meets the line is no miscalibration.
        error = [2 * math.sqrt(one.observed * (1 - one.observed) / one.films) for one in bins]
        predicted, observed = [one.predicted for one in bins], [one.observed for one in bins]
        axes.errorbar(predicted, observed, error, color=_OURS, marker="o", markersize=3, linewidth=1, alpha=0.9)
    return figure


def _confusions(condition: ConditionReport) -> Figure:
    """Draw which genre was wrongly given to films whose own genre was missed, as a share of the films."""
    names = [genre.genre for genre in condition.tuned.genres]
    support = np.maximum([genre.support for genre in condition.tuned.genres], 1)
    shares = np.array(condition.curves["confusions"]) / support[:, None]
    size = 2.0 + 0.42 * len(names)
    figure = Figure(figsize=(size + 0.6, size), layout="constrained")
    axes = figure.subplots()
    blue = matplotlib.colors.to_rgb(_OURS)
    top = max(float(shares.max()), 1e-9)
    for row, column in np.argwhere(shares > 0):
        shade = (*blue, 0.85 * float(shares[row, column]) / top)
        axes.add_patch(matplotlib.patches.Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=shade))
        if len(names) <= 15 and shares[row, column] >= 0.005:
            axes.text(column, row, f"{shares[row, column]:.0%}", ha="center", va="center", fontsize=7.5)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("wrongly given")
    axes.set_ylabel("missed")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def _coverage(report: Report) -> Figure:
    """Draw micro-F1 of the films answered against their share, one line per condition."""
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.subplots()
    for condition, colour in zip(report.conditions, _COLOURS, strict=False):
        shares, values = zip(*condition.curves["coverage"], strict=True)
        axes.plot(shares, values, color=colour, linewidth=1.5, label=condition.name)
        sure, f1 = condition.abstention["sure"], condition.abstention["sure_micro_f1"]
        if f1 is not None:
            axes.plot([sure], [f1], "o", color=colour, markersize=6)
    axes.set_xlabel("share of films answered, most confident first (● at the model’s own threshold)")
    axes.set_ylabel("micro-F1 of those")
    axes.grid()
    axes.legend(loc="best", fontsize=8)
    return figure


def _panels(count: int, across: str, up: str) -> tuple[Figure, Sequence[Any]]:
    columns = min(5, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(2.0 * columns + 0.4, 1.95 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in grid[:count]:
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
        axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
        axes.grid()
    for axes in grid[count:]:
        axes.set_visible(False)
    figure.supxlabel(across, fontsize=9)
    figure.supylabel(up, fontsize=9)
    return figure, list(grid[:count])


def _number(estimate: Estimate) -> float:
    return math.nan if estimate.value is None else estimate.value


def _svg(figure: Figure, name: str) -> str:
    """Return the figure as an SVG element, the same on every run, with ids that no other figure uses."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r'font: ([^;"]*?px) [^;"]*', r"font: \1 system-ui, sans-serif", text)
    text = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    return re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r'<svg \1role="img"', text, count=1)
