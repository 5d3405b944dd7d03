"""Lists of films worth a look after a run: unsure predictions, given genres that are likely wrong, and problems."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import polars as pl

from mmgcs.film import Film, Prediction
from mmgcs.registry import Registry
from mmgcs.runtime import STRANGE

EMA = 0.8
"""The weight of the worst genre in a film's label quality; the value of Thyagarajan et al. 2023."""


class FilmList(NamedTuple):
    """A list that a run can write.

    Attributes:
        types: its columns with their polars types.
        rows: from a film, its prediction, and the confidence needed to be sure, to the film's rows.
        ranked: True to order rows by `score`, lowest first, and number them in `rank`; else they keep the films' order.
    """

    types: Mapping[str, pl.DataType]
    rows: Callable[[Film, Prediction, float], list[dict[str, Any]]]
    ranked: bool = False


FILM_LISTS: Registry[FilmList] = Registry("list of films")


_TEXT, _TEXTS, _NUMBER = pl.String(), pl.List(pl.String()), pl.Float64()
_FILM = {"place": _TEXT, "id": _TEXT, "title": _TEXT}


def _review(film: Film, prediction: Prediction, least: float) -> list[dict[str, Any]]:
    reasons = review_reasons(prediction, least)
    if not reasons:
        return []
    predicted = prediction.error is None
    row = {
        "genres": list(prediction.genres or prediction.top(1)) if predicted else [],
        "confidence": prediction.confidence if predicted else None,
        "possible": list(prediction.possible),
        "reasons": reasons,
        "given_genres": list(film.genres or ()),
    }
    return [{"place": film.place, "id": film.id, "title": film.title, **row}]


def review_reasons(prediction: Prediction, least: float) -> list[str]:
    """Return why a prediction is worth a look; empty if it is not, or if the film was not to be predicted.

    Args:
        prediction: the prediction.
        least: the confidence needed to be sure.
    """
    if prediction.error is not None:
        return [prediction.error, *prediction.warnings]
    if not prediction.inputs:
        return []
    reasons = []
    if not prediction.genres:
        reasons.append("no genre is likely enough")
    elif prediction.confidence < least:
        reasons.append(f"the confidence {prediction.confidence:.2f} is under {least:.2f}")
    reasons += [STRANGE.format(name) for name in prediction.strange]
    return list(dict.fromkeys([*reasons, *prediction.warnings])) if reasons else []


def _compare(film: Film, prediction: Prediction, least: float) -> list[dict[str, Any]]:
    del least  # a disagreement counts however sure the model is
    if not film.genres or not prediction.inputs:
        return []
    add = [genre for genre in prediction.genres if genre not in film.genres]
    chances = prediction.probabilities
    remove = [genre for genre in film.genres if genre in chances and genre not in prediction.genres]
    if not add and not remove:
        return []
    row = {
        "score": round(label_quality(film.genres, chances), 6),
        "place": film.place,
        "id": film.id,
        "title": film.title,
        "given_genres": list(film.genres),
        "genres": list(prediction.genres),
        "add": [f"{genre} {chances[genre]:.2f}" for genre in add],
        "remove": [f"{genre} {chances[genre]:.2f}" for genre in sorted(remove, key=lambda genre: chances[genre])],
    }
    return [row]


def _problems(film: Film, prediction: Prediction, least: float) -> list[dict[str, Any]]:
    del least
    where = {"place": film.place, "id": film.id}
    errors = [] if prediction.error is None else [prediction.error]
    warnings = dict.fromkeys([*film.warnings, *prediction.warnings])
    return [{**where, "kind": "error", "problem": text} for text in errors] + [
        {**where, "kind": "warning", "problem": text} for text in warnings
    ]


_REVIEW = {"genres": _TEXTS, "confidence": _NUMBER, "possible": _TEXTS, "reasons": _TEXTS, "given_genres": _TEXTS}
_RANK = {"rank": pl.Int64(), "score": _NUMBER}
_COMPARE = {"given_genres": _TEXTS, "genres": _TEXTS, "add": _TEXTS, "remove": _TEXTS}
FILM_LISTS.register("review")(FilmList({**_FILM, **_REVIEW}, _review))
FILM_LISTS.register("compare")(FilmList({**_RANK, **_FILM, **_COMPARE}, _compare, ranked=True))
FILM_LISTS.register("problems")(FilmList({"place": _TEXT, "id": _TEXT, "kind": _TEXT, "problem": _TEXT}, _problems))


def label_quality(given: Collection[str], probabilities: Mapping[str, float]) -> float:
    """Return how well a film's given genres agree with the model, 0 to 1: the lower, the likelier a label is wrong.

    Each genre's probability of being as given, the worst weighing most: their exponential moving average from the best
    to the worst (Thyagarajan et al. 2023, "Identifying incorrect annotations in multi-label classification data").

    >>> round(label_quality(["Drama"], {"Drama": 0.9, "Horror": 0.1}), 2)
    0.9
    >>> round(label_quality(["Drama"], {"Drama": 0.9, "Horror": 0.95}), 2)
    0.22
    """
    scores = sorted((p if genre in given else 1.0 - p for genre, p in probabilities.items()), reverse=True)
    quality = scores[0]
    for score in scores[1:]:
        quality = EMA * score + (1.0 - EMA) * quality
    return quality
