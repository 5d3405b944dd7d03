"""A bundle's predictions for films with all their inputs, or with some of them hidden."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mmgcs.bundle import BundleConfig
from mmgcs.film import Film
from mmgcs.progress import Update
from mmgcs.runtime import Classifier, without


@dataclass(frozen=True, slots=True)
class Condition:
    """One setting of an evaluation: which films count, and which of their inputs are shown."""

    name: str
    description: str  # which films, and what of them is shown
    needs: tuple[str, ...]  # the inputs that a film must have to count
    shown: tuple[str, ...] = ("plot", "poster")
    title: bool = True  # False hides titles


CONDITIONS = (
    Condition("all films", "every film, with the inputs that it has", ()),
    Condition("plot and poster", "films that have both, both shown", ("plot", "poster")),
    Condition("plot only", "every film with a plot; its poster hidden", ("plot",), ("plot",)),
    Condition("plot only, no title", "every film with a plot; poster and title hidden", ("plot",), ("plot",), False),
    Condition(
        "plot only, of films with both", "the films of “plot and poster”; posters hidden", ("plot", "poster"), ("plot",)
    ),
    Condition("poster only", "every film with a poster; plot and title hidden", ("poster",), ("poster",), False),
)
"""The conditions of a report, in its order."""


@dataclass(frozen=True, slots=True)
class Answers:
    """A bundle's predictions for some films, as arrays."""

    rows: NDArray[np.int64]  # (answered,) the films' positions among all films
    inputs: tuple[str, ...]  # for each, the inputs read: "plot", "poster" or "plot+poster"
    probabilities: NDArray[np.float32]  # (answered, genres) calibrated
    chosen: NDArray[np.bool_]  # (answered, genres)
    confidence: NDArray[np.float64]  # (answered,)
    sure: NDArray[np.bool_]  # (answered,)
    possible: NDArray[np.bool_] | None  # (answered, genres) the prediction sets; None if some inputs have none
    decided: NDArray[np.bool_] | None  # (answered, genres) not left undecided; None if some inputs decide all

    def of_genres(self, columns: Sequence[int], known: NDArray[np.bool_]) -> Answers:
        """Return the answers for the genres in `columns`, with NaN as the probability where a label is not known."""
        return replace(
            self,
            probabilities=np.where(known, self.probabilities[:, columns], np.float32(np.nan)),
            chosen=self.chosen[:, columns] & known,
            possible=None if self.possible is None else self.possible[:, columns] & known,
            decided=None if self.decided is None else self.decided[:, columns],
        )


def reads_title(config: BundleConfig) -> bool:
    """Return True if a bundle reads titles: a branch on plots does unless its options say `use_title: false`."""
    return any(branch.input == "plot" and branch.options.get("use_title", True) for branch in config.branches)


class ShownFilms:
    """Films' features, computed once for all conditions: hiding an input only zeroes its branch."""

    def __init__(self, classifier: Classifier, films: Sequence[Film], progress: Update) -> None:
        self._classifier = classifier
        self._config = classifier.bundle.config
        self._films = films
        self._progress = progress
        self._features = classifier.features(films, progress=partial(progress, "reading plots and posters"))
        self._titled = reads_title(self._config) and any(film.title for film in films)
        self.errors = self._features.errors  # for each film, why it could not be read; "" if it could

    def applies(self, condition: Condition) -> bool:
        """Return True if a condition applies to this bundle and these films, and differs from the others."""
        if not set(condition.needs) <= set(self._config.inputs) or not self._rows(condition).size:
            return False
        return self._titled or condition.title or condition.shown != ("plot",)

    def answer(self, condition: Condition) -> Answers:
        """Return the bundle's answers under a condition that applies."""
        features, rows = self._features, self._rows(condition)
        if self._titled and "plot" in condition.shown and not condition.title:
            untitled = [replace(without(film, "poster"), title=None) for film in self._films]
            progress = partial(self._progress, "reading plots without titles")
            features = self._classifier.features(untitled, progress=progress)
        features = features.only(self._config.branches, condition.shown, rows)
        predictions = self._classifier.decide(self._classifier.logits(features), features)
        inputs = tuple("+".join(prediction.inputs) for prediction in predictions)
        decisions = [self._config.decisions[read] for read in inputs]
        has_sets = all(decision.possible is not None for decision in decisions)
        abstains = all(decision.margin is not None for decision in decisions)
        return Answers(
            rows=rows,
            inputs=inputs,
            probabilities=np.array([list(one.probabilities.values()) for one in predictions], dtype=np.float32),
            chosen=self._mask(one.genres for one in predictions),
            confidence=np.array([one.confidence for one in predictions]),
            sure=np.array([one.sure for one in predictions]),
            possible=self._mask(one.possible for one in predictions) if has_sets else None,
            decided=~self._mask(one.undecided for one in predictions) if abstains else None,
        )

    def _mask(self, names: Iterable[tuple[str, ...]]) -> NDArray[np.bool_]:
        return np.array([[genre in some for genre in self._config.genres] for some in names], dtype=bool)

    def _rows(self, condition: Condition) -> NDArray[np.int64]:
        readable = np.array([not error for error in self.errors], dtype=bool)
        return np.flatnonzero(readable & self._features.having(self._config.branches, condition.needs))
