"""Score groups of films: by genre, decade, plot length, inputs and columns of the table.

Each group has an interval, so that noise is not reported as a weakness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmgcs.errors import UsageError
from mmgcs.evaluation.conditions import Answers
from mmgcs.evaluation.metrics import Bools, Estimate, Measured, Scores
from mmgcs.film import Film

LEAST_FILMS = 20
"""Smaller groups are left out: their intervals would span everything."""

DEFAULT_COLUMNS = ("cohort", "language")
"""The columns that a report groups films by if the table has them."""

_LENGTHS = {20: "under 20 words", 40: "20–39 words", 80: "40–79 words", 10**9: "80 words or more"}


@dataclass(frozen=True, slots=True)
class Group:
    """The scores of one group of films."""

    kind: str  # what films were grouped by
    name: str  # the group
    films: int  # films in it; for a genre, the films that have it
    f1: Estimate  # micro-F1 over the group's films; for a genre, its F1
    sure: float  # the share of the group's films that the bundle is sure of
    weak: bool  # True if even the interval's upper end is below the value over all films (for genres, macro-F1)
    macro_f1: Estimate | None = None  # None except for groups by a column
    mean_average_precision: Estimate | None = None  # None except for groups by a column


def find_columns(films: Sequence[Film], wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Return the columns to group films by: those wanted, or by default those of `DEFAULT_COLUMNS` with values.

    Raises:
        UsageError: no film has a wanted column.
    """
    filled = {name for film in films for name, value in film.record.items() if value not in (None, "")}
    for column in wanted or ():
        if column not in filled:
            known = ", ".join(sorted({name for film in films for name in film.record})) or "none"
            raise UsageError(f"--by {column}: no scored film has a value in that column; the columns are {known}")
    return tuple(column for column in DEFAULT_COLUMNS if column in filled) if wanted is None else tuple(wanted)


def find_groups(
    films: Sequence[Film], truth: Bools, answers: Answers, scores: Scores, columns: Sequence[str], **draws: int
) -> tuple[Group, ...]:
    """Group the films that were answered, also by `columns` of their table, and score each group.

    `truth` is (films, genres), `scores` those of all films; `draws` are `bootstrap` and `seed`, as for `Measured`.
    """
    groups = []
    for index, genre in enumerate(scores.genres):
        if genre.support >= LEAST_FILMS:
            sure = float(answers.sure[truth[:, index]].mean())
            weak = _under(genre.f1, scores.macro_f1)
            groups.append(Group("genre", genre.genre, genre.support, genre.f1, sure, weak))
    kinds: Mapping[str, Sequence[Any]] = {
        "decade": [f"{film.year // 10 * 10}s" if film.year else None for film in films],
        "plot length": [_length(film) for film in films],
        "inputs": [read.replace("+", " and ") for read in answers.inputs],
        **{column: [film.record.get(column) for film in films] for column in columns},
    }
    for kind, names in kinds.items():
        found = np.array(["" if name is None else str(name) for name in names])
        # "under 20 words" comes before the lengths that start with a number.
        for name in sorted(set(found) - {""}, key=lambda name: (not name.startswith("under"), name)):
            rows = found == name
            if rows.sum() < LEAST_FILMS:
                continue
            by_column = kind in columns
            shown = answers.probabilities[rows] if by_column else None
            measured = Measured(truth[rows], shown, answers.chosen[rows], **draws)
            f1, sure = measured.estimate("micro_f1"), float(answers.sure[rows].mean())
            more = [measured.estimate(name) for name in ("macro_f1", "mean_average_precision")] if by_column else []
            groups.append(Group(kind, str(name), int(rows.sum()), f1, sure, _under(f1, scores.micro_f1), *more))
    return tuple(groups)


def _under(group: Estimate, overall: Estimate) -> bool:
    return group.high is not None and overall.value is not None and group.high < overall.value


def _length(film: Film) -> str | None:
    words = len((film.plot or "").split())
    return next(name for limit, name in _LENGTHS.items() if words < limit) if words else None
