"""How good a model is on some kinds of films: by genre, decade, plot length, inputs and columns of the table.

Each group has an interval, so that noise is not reported as a weakness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmgcs.errors import UsageError
from mmgcs.evaluation.metrics import Bools, Estimate, Measured, Scores
from mmgcs.evaluation.showings import ShownAnswers
from mmgcs.film import Film

LEAST_FILMS = 20
"""Groups of fewer films are left out: their intervals would span everything."""

DEFAULT_COLUMNS = ("cohort", "language")
"""The columns that a report groups films by if the table has them."""

_LENGTHS = ((20, "under 20 words"), (40, "20–39 words"), (80, "40–79 words"))


@dataclass(frozen=True, slots=True)
class Group:
    """How well some kind of films is predicted.

    Attributes:
        kind: what films were grouped by.
        name: the group.
        films: films in it; for a genre, the films that have it.
        f1: micro-F1 over the group's films; for a genre, its F1.
        sure: the share of the group's films that the bundle is sure of.
        weak: True if even the interval's upper end is under the value over all films (for genres, under macro-F1).
        macro_f1, mean_average_precision: over the group's films; None except for groups by a column.
    """

    kind: str
    name: str
    films: int
    f1: Estimate
    sure: float
    weak: bool
    macro_f1: Estimate | None = None
    mean_average_precision: Estimate | None = None


def find_columns(films: Sequence[Film], wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Return the columns to group films by: those wanted, or by default those of `DEFAULT_COLUMNS` with values.

    Raises:
        UsageError: no film has a wanted column.
    """
    filled = {name for film in films for name, value in film.record.items() if value not in (None, "")}
    for column in wanted or ():
        if column not in filled:
            known = ", ".join(sorted({name for film in films for name in film.record})) or "none"
            raise UsageError(f"--by {column}: no film to score has a value in such a column; the columns are {known}")
    return tuple(column for column in DEFAULT_COLUMNS if column in filled) if wanted is None else tuple(wanted)


def find_groups(
    films: Sequence[Film],
    truth: Bools,
    answers: ShownAnswers,
    scores: Scores,
    columns: Sequence[str],
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> tuple[Group, ...]:
    """Group the films that were answered, and score each group.

    Args:
        films: the films, one for each row of `truth`.
        truth: (films, genres).
        answers: what the bundle answered.
        scores: the scores of those very answers.
        columns: columns of the films' table to group by as well.
        bootstrap, seed: for the intervals.
    """
    groups = [
        Group(
            kind="genre",
            name=genre.genre,
            films=genre.support,
            f1=genre.f1,
            sure=float(answers.sure[truth[:, index]].mean()),
            weak=_under(genre.f1, scores.macro_f1),
        )
        for index, genre in enumerate(scores.genres)
        if genre.support >= LEAST_FILMS
    ]
    kinds: Mapping[str, Sequence[str | None]] = {
        "decade": [f"{film.year // 10 * 10}s" if film.year else None for film in films],
        "plot length": [_length(film) for film in films],
        "inputs": [read.replace("+", " and ") for read in answers.inputs],
        **{column: [_cell(film, column) for film in films] for column in columns},
    }
    for kind, names in kinds.items():
        for name in sorted({name for name in names if name is not None}, key=_order):
            rows = np.array([one == name for one in names])
            if rows.sum() < LEAST_FILMS:
                continue
            shown = answers.probabilities[rows] if kind in columns else None
            measured = Measured(truth[rows], shown, answers.chosen[rows], bootstrap=bootstrap, seed=seed)
            groups.append(
                Group(
                    kind=kind,
                    name=name,
                    films=int(rows.sum()),
                    f1=(f1 := measured.estimate("micro_f1")),
                    sure=float(answers.sure[rows].mean()),
                    weak=_under(f1, scores.micro_f1),
                    macro_f1=None if shown is None else measured.estimate("macro_f1"),
                    mean_average_precision=None if shown is None else measured.estimate("mean_average_precision"),
                )
            )
    return tuple(groups)


def _under(group: Estimate, overall: Estimate) -> bool:
    return group.high is not None and overall.value is not None and group.high < overall.value


def _cell(film: Film, column: str) -> str | None:
    value = film.record.get(column)
    return None if value in (None, "") else str(value)


def _length(film: Film) -> str | None:
    words = len((film.plot or "").split())
    if not words:
        return None
    return next((name for limit, name in _LENGTHS if words < limit), "80 words or more")


def _order(name: str) -> tuple[bool, str]:
    # "under 20 words" comes before the lengths that start with a number.
    return not name.startswith("under"), name
