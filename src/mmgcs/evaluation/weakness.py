"""Where a model is weak: by decade, plot length and inputs, with intervals, so that noise is not called weakness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mmgcs.evaluation.conditions import Answers
from mmgcs.evaluation.metrics import Bools, Estimate, Scores, bootstrap_measure
from mmgcs.film import Film

LEAST_FILMS = 20
"""Groups of fewer films are left out: their intervals would span everything."""

_LENGTHS = ((20, "under 20 words"), (40, "20–39 words"), (80, "40–79 words"))


@dataclass(frozen=True, slots=True)
class Group:
    """How well some kind of films is told.

    Attributes:
        kind: what films were grouped by.
        name: the group.
        films: films in it; for a genre, those that have it.
        f1: micro-F1 over the group's films; for a genre, its F1.
        sure: the share of the group's films that the bundle is sure of.
        weak: whether even the interval's upper end is under the value over all films (for genres, under macro-F1).
    """

    kind: str
    name: str
    films: int
    f1: Estimate
    sure: float
    weak: bool


def find_groups(
    films: Sequence[Film], truth: Bools, answers: Answers, scores: Scores, *, bootstrap: int = 1000, seed: int = 0
) -> tuple[Group, ...]:
    """Groups by genre, decade, plot length and inputs, of films that were answered (in the order of `answers`).

    Args:
        films: the films, one for each row of `truth`.
        truth: (films, genres).
        answers: what the bundle answered.
        scores: the scores of those very answers.
        bootstrap, seed: for the intervals.
    """
    groups = [
        Group(
            "genre",
            genre.genre,
            genre.support,
            genre.f1,
            float(answers.sure[truth[:, index]].mean()),
            _under(genre.f1, scores.macro_f1),
        )
        for index, genre in enumerate(scores.genres)
        if genre.support >= LEAST_FILMS
    ]
    inputs = dict(zip(map(id, films), answers.inputs, strict=True))
    kinds: tuple[tuple[str, Callable[[Film], str | None]], ...] = (
        ("decade", lambda film: f"{film.year // 10 * 10}s" if film.year else None),
        ("plot length", _length),
        ("inputs", lambda film: inputs[id(film)].replace("+", " and ")),
        ("cohort", lambda film: str(film.record["cohort"]) if film.record.get("cohort") else None),
    )
    for kind, name_of in kinds:
        names = [name_of(film) for film in films]
        for name in sorted({name for name in names if name is not None}, key=_length_order):
            rows = np.array([one == name for one in names])
            if rows.sum() < LEAST_FILMS:
                continue
            measured = bootstrap_measure(truth[rows], None, answers.chosen[rows], bootstrap=bootstrap, seed=seed)
            f1 = measured.estimate("micro_f1")
            sure = float(answers.sure[rows].mean())
            groups.append(Group(kind, name, int(rows.sum()), f1, sure, _under(f1, scores.micro_f1)))
    return tuple(groups)


def _under(group: Estimate, overall: Estimate) -> bool:
    return group.high is not None and overall.value is not None and group.high < overall.value


def _length(film: Film) -> str | None:
    words = len((film.plot or "").split())
    if not words:
        return None
    return next((name for limit, name in _LENGTHS if words < limit), "80 words or more")


def _length_order(name: str) -> tuple[bool, str]:
    # "under 20 words" comes before the lengths that start with a number.
    return not name.startswith("under"), name
