"""Lists of films to check after a run: unsure predictions, given genres that are likely wrong, and problems."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import polars as pl

from mmgcs.film import Film, Prediction
from mmgcs.runtime import STRANGE


class FilmList(NamedTuple):
    """A list that a run can write.

    Attributes:
        types: its columns with their polars types.
        rows: returns the rows of a film, given its prediction and the confidence needed to be sure.
        ranked: True to sort rows by `score`, lowest first, and number them in `rank`; False to keep the films' order.
    """

    types: Mapping[str, pl.DataType]
    rows: Callable[[Film, Prediction, float], list[dict[str, Any]]]
    ranked: bool = False


_TEXT, _TEXTS, _NUMBER = pl.String(), pl.List(pl.String()), pl.Float64()
_FILM = {"place": _TEXT, "id": _TEXT, "title": _TEXT}


def _review(film: Film, prediction: Prediction, least: float) -> list[dict[str, Any]]:
    reasons = []
    if prediction.error is not None:
        reasons.append(prediction.error)
    elif prediction.inputs:
        if not prediction.genres:
            reasons.append("no genre is likely enough")
        elif prediction.confidence < least:
            reasons.append(f"the confidence {prediction.confidence:.2f} is below {least:.2f}")
        reasons += [STRANGE.format(name) for name in prediction.strange]
    if not reasons:
        return []
    predicted = prediction.error is None
    row = {
        "genres": list(prediction.genres or prediction.top(1)) if predicted else [],
        "confidence": prediction.confidence if predicted else None,
        "possible": list(prediction.possible),
        "reasons": list(dict.fromkeys([*reasons, *prediction.warnings])),
        "given_genres": list(film.genres or ()),
    }
    return [{"place": film.place, "id": film.id, "title": film.title, **row}]


def _compare(film: Film, prediction: Prediction, least: float) -> list[dict[str, Any]]:
    del least  # every disagreement counts
    given, chances = film.genres or (), prediction.probabilities
    add = [genre for genre in prediction.genres if genre not in given]
    remove = [genre for genre in given if genre in chances and genre not in prediction.genres]
    if not given or not prediction.inputs or not (add or remove):
        return []
    row = {
        "score": round(label_quality(given, chances), 6),
        "place": film.place,
        "id": film.id,
        "title": film.title,
        "given_genres": list(given),
        "genres": list(prediction.genres),
        "add": [f"{genre} {chances[genre]:.2f}" for genre in add],
        "remove": [f"{genre} {chances[genre]:.2f}" for genre in sorted(remove, key=lambda genre: chances[genre])],
    }
    return [row]


def _problems(film: Film, prediction: Prediction, least: float) -> list[dict[str, Any]]:
    del least
    found = [("error", prediction.error)] if prediction.error is not None else []
    found += [("warning", text) for text in dict.fromkeys([*film.warnings, *prediction.warnings])]
    return [{"place": film.place, "id": film.id, "kind": kind, "problem": text} for kind, text in found]


_REVIEW = {"genres": _TEXTS, "confidence": _NUMBER, "possible": _TEXTS, "reasons": _TEXTS, "given_genres": _TEXTS}
_RANK = {"rank": pl.Int64(), "score": _NUMBER}
_COMPARE = {"given_genres": _TEXTS, "genres": _TEXTS, "add": _TEXTS, "remove": _TEXTS}

FILM_LISTS: Mapping[str, FilmList] = {
    "review": FilmList({**_FILM, **_REVIEW}, _review),
    "compare": FilmList({**_RANK, **_FILM, **_COMPARE}, _compare, ranked=True),
    "problems": FilmList({"place": _TEXT, "id": _TEXT, "kind": _TEXT, "problem": _TEXT}, _problems),
}


def label_quality(given: Collection[str], probabilities: Mapping[str, float]) -> float:
    """Return how well a film's given genres agree with the model, 0 to 1; a low value suggests a wrong label.

    This is the exponential moving average of each genre's probability of being labelled correctly, from the best to
    the worst, with Thyagarajan et al.'s weight of 0.8 ("Identifying incorrect annotations in multi-label
    classification data", 2023).

    >>> round(label_quality(["Drama"], {"Drama": 0.9, "Horror": 0.1}), 2)
    0.9
    >>> round(label_quality(["Drama"], {"Drama": 0.9, "Horror": 0.95}), 2)
    0.22
    """
    scores = sorted((p if genre in given else 1.0 - p for genre, p in probabilities.items()), reverse=True)
    quality = scores[0]
    for score in scores[1:]:
        quality = 0.8 * score + 0.2 * quality
    return quality
