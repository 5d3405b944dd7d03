"""What a person should look at after a run: unsure films, genres that are likely wrong, and every problem."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmgcs.film import Film, Prediction
from mmgcs.registry import Registry
from mmgcs.runtime.classifier import STRANGE, Classifier

EMA = 0.8
"""The weight of the worst genre in a film's label quality; the value of Thyagarajan et al. 2023."""


class Judge:
    """How sure is sure enough.

    Attributes:
        least: the confidence that a prediction must have; None for the bundle's own threshold for its inputs.
    """

    def __init__(self, classifier: Classifier, least: float | None = None) -> None:
        self.least = least
        self._own = {inputs: decision.confidence for inputs, decision in classifier.bundle.config.decisions.items()}

    def settle(self, prediction: Prediction) -> Prediction:
        """The prediction by this measure: where a confidence was asked for, a film under it gets no genres."""
        if self.least is None or not prediction.inputs:
            return prediction
        sure = prediction.reaches(self.least)
        return replace(prediction, sure=sure, genres=prediction.genres if sure else ())

    def reasons(self, prediction: Prediction) -> list[str]:
        """Why a prediction is worth a human look; empty where it is not, or where nothing was predicted."""
        if prediction.error is not None:
            return [prediction.error, *prediction.warnings]
        if not prediction.inputs:
            return []
        least = self._own["+".join(prediction.inputs)] if self.least is None else self.least
        reasons = []
        if not prediction.genres:
            reasons.append("no genre is likely enough")
        elif prediction.confidence < least:
            reasons.append(f"the confidence {prediction.confidence:.2f} is under {least:.2f}")
        reasons += [STRANGE.format(name) for name in prediction.strange]
        if not reasons:
            return []
        return list(dict.fromkeys([*reasons, *prediction.warnings]))


class Finding(NamedTuple):
    """A list that a run can make.

    Attributes:
        columns: of the list.
        find: from a film, its prediction and the judge to the film's rows.
        ranked: whether rows are ordered by `score`, lowest first, and numbered; else they stand in the films' order.
    """

    columns: tuple[str, ...]
    find: Callable[[Film, Prediction, Judge], list[dict[str, Any]]]
    ranked: bool = False


FINDINGS: Registry[Finding] = Registry("finding")


def _review(film: Film, prediction: Prediction, judge: Judge) -> list[dict[str, Any]]:
    reasons = judge.reasons(prediction)
    if not reasons:
        return []
    said = prediction.error is None
    row = {
        "genres": list(prediction.genres or prediction.top(1)) if said else [],
        "confidence": prediction.confidence if said else None,
        "possible": list(prediction.possible),
        "reasons": reasons,
        "given_genres": list(film.genres or ()),
    }
    return [{"place": film.place, "id": film.id, "title": film.title, **row}]


def _compare(film: Film, prediction: Prediction, judge: Judge) -> list[dict[str, Any]]:
    del judge  # a disagreement is one however sure
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


def _problems(film: Film, prediction: Prediction, judge: Judge) -> list[dict[str, Any]]:
    del judge
    where = {"place": film.place, "id": film.id}
    errors = [] if prediction.error is None else [prediction.error]
    # A film that was not predicted has its own warnings still.
    warnings = dict.fromkeys([*film.warnings, *prediction.warnings])
    return [{**where, "kind": "error", "problem": text} for text in errors] + [
        {**where, "kind": "warning", "problem": text} for text in warnings
    ]


FINDINGS.register("review")(
    Finding(("place", "id", "title", "genres", "confidence", "possible", "reasons", "given_genres"), _review)
)
FINDINGS.register("compare")(
    Finding(("rank", "score", "place", "id", "title", "given_genres", "genres", "add", "remove"), _compare, ranked=True)
)
FINDINGS.register("problems")(Finding(("place", "id", "kind", "problem"), _problems))


def label_quality(given: Collection[str], probabilities: Mapping[str, float]) -> float:
    """How well a film's given genres agree with the model, 0 to 1: the lower, the likelier a label is wrong.

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


def in_rank(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a log by their `score`, lowest first, with their `rank`; in memory only a score and a place each."""
    scores, places = array("d"), array("q")
    with path.open("rb") as handle:
        place = 0
        for line in handle:
            scores.append(json.loads(line)["score"])
            places.append(place)
            place += len(line)
        for rank, index in enumerate(np.argsort(np.asarray(scores), kind="stable"), 1):
            handle.seek(places[index])
            yield {"rank": rank, **json.loads(handle.readline())}
