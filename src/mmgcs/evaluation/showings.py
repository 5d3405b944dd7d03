"""What a bundle answers when films come with all their inputs, or with some of them hidden."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgcs.bundle import BundleConfig
from mmgcs.evaluation.calibration import confidences
from mmgcs.evaluation.metrics import choose
from mmgcs.film import Film
from mmgcs.runtime import Classifier, Features, margins, sigmoid, without

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""

_CHUNK = 128  # films between two reports of progress


@dataclass(frozen=True, slots=True)
class Showing:
    """A way to show films to a bundle: one condition of a report."""

    name: str
    description: str  # which films, and what of them is shown
    needs: tuple[str, ...]  # the inputs that a film must have to count
    shown: tuple[str, ...] = ("plot", "poster")
    title: bool = True  # False hides titles


SHOWINGS = (
    Showing("all films", "every film, with the inputs that it has", ()),
    Showing("plot and poster", "films that have both, both shown", ("plot", "poster")),
    Showing("plot only", "every film with a plot; its poster hidden", ("plot",), ("plot",)),
    Showing("plot only, no title", "every film with a plot; poster and title hidden", ("plot",), ("plot",), False),
    Showing(
        "plot only, of films with both", "the films of “plot and poster”; posters hidden", ("plot", "poster"), ("plot",)
    ),
    Showing("poster only", "every film with a poster; plot and title hidden", ("poster",), ("poster",), False),
)
"""The conditions of a report, in its order."""


@dataclass(frozen=True, slots=True)
class ShownAnswers:
    """What a bundle answers to some films."""

    rows: NDArray[np.int64]  # (answered,) the films' positions among all films
    inputs: tuple[str, ...]  # for each, what was read: "plot", "poster" or "plot+poster"
    probabilities: NDArray[np.float32]  # (answered, genres) calibrated
    thresholds: NDArray[np.float32]  # (answered, genres) those of each film's inputs
    confidence: NDArray[np.float64]  # (answered,) as the classifier reports it
    sure: NDArray[np.bool_]  # (answered,) as the classifier reports it
    possible: NDArray[np.bool_] | None  # (answered, genres) the prediction sets; None if some inputs have none
    decided: NDArray[np.bool_] | None  # (answered, genres) not left undecided; None if some inputs decide all

    def of_genres(self, columns: Sequence[int], known: NDArray[np.bool_]) -> ShownAnswers:
        """Return the answers for the genres in `columns`, with NaN as the probability where a label is not known."""
        return replace(
            self,
            probabilities=np.where(known, self.probabilities[:, columns], np.float32(np.nan)),
            thresholds=self.thresholds[:, columns],
            possible=None if self.possible is None else self.possible[:, columns] & known,
            decided=None if self.decided is None else self.decided[:, columns],
        )

    @property
    def chosen(self) -> NDArray[np.bool_]:
        """The chosen genres (answered, genres)."""
        return choose(self.probabilities, self.thresholds)


def reads_title(config: BundleConfig) -> bool:
    """Return True if a bundle reads titles: a branch on plots does unless its options say `use_title: false`."""
    return any(branch.input == "plot" and branch.options.get("use_title", True) for branch in config.branches)


class ShownFilms:
    """Films' features, computed once and reused for every showing: hiding an input only zeroes its branch."""

    def __init__(self, classifier: Classifier, films: Sequence[Film], progress: Progress) -> None:
        self._classifier = classifier
        self._config = classifier.bundle.config
        self._films = films
        self._progress = progress
        self._full = self._features(films, "reading plots and posters")
        self._untitled: Features | None = None
        self._titled = reads_title(self._config) and any(film.title for film in films)
        self.errors = self._full.errors  # for each film, why it could not be read; "" if it could

    def applies(self, showing: Showing) -> bool:
        """Return True if a showing says something of its own about this bundle and these films."""
        if not set(showing.needs) <= set(self._config.inputs) or not self._rows(showing).size:
            return False
        return self._titled or showing.shown != ("plot",) or showing.title

    def answer(self, showing: Showing) -> ShownAnswers:
        """Return what the bundle answers under a showing that applies."""
        features = self._full
        if self._titled and "plot" in showing.shown and not showing.title:
            if self._untitled is None:
                bare = [replace(without(film, "poster"), title=None) for film in self._films]
                self._untitled = self._features(bare, "reading plots without titles")
            features = self._untitled
        rows = self._rows(showing)
        return _decide(self._classifier, features.only(self._config.branches, showing.shown, rows), rows)

    def _rows(self, showing: Showing) -> NDArray[np.int64]:
        counts = np.array([not error for error in self.errors], dtype=bool)
        for name in showing.needs:
            columns = [index for index, branch in enumerate(self._config.branches) if branch.input == name]
            counts &= self._full.present[:, columns].max(axis=1, initial=0.0) > 0
        return np.flatnonzero(counts)

    def _features(self, films: Sequence[Film], stage: str) -> Features:
        parts = []
        self._progress(stage, 0, len(films))
        for start in range(0, len(films), _CHUNK):
            parts.append(self._classifier.features(films[start : start + _CHUNK]))
            self._progress(stage, min(start + _CHUNK, len(films)), len(films))
        return Features(
            values={name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values},
            present=np.concatenate([part.present for part in parts]),
            warnings=[warning for part in parts for warning in part.warnings],
            errors=[error for part in parts for error in part.errors],
            strange=np.concatenate([part.strange for part in parts if part.strange is not None]),
        )


def _decide(classifier: Classifier, features: Features, rows: NDArray[np.int64]) -> ShownAnswers:
    config = classifier.bundle.config
    logits = classifier.logits(features)
    read = np.array([branch.input for branch in config.branches])
    inputs = tuple("+".join(name for name in config.inputs if name in read[there > 0]) for there in features.present)
    decisions = [config.decisions[combination] for combination in inputs]

    def each(values: Sequence[Any]) -> NDArray[np.float32]:
        return np.array(values, dtype=np.float32)

    slope, intercept = each([one.slope for one in decisions]), each([one.intercept for one in decisions])
    thresholds = each([one.thresholds for one in decisions])
    probabilities = sigmoid(logits * slope + intercept)
    chosen = choose(probabilities, thresholds)
    confidence = confidences(probabilities, chosen)
    sure = confidence >= np.array([one.confidence for one in decisions])
    if features.strange is not None:
        sure &= ~features.strange.any(axis=1)
    cuts, widths = [one.possible for one in decisions], [one.margin for one in decisions]
    return ShownAnswers(
        rows=rows,
        inputs=inputs,
        probabilities=probabilities,
        thresholds=thresholds,
        confidence=confidence,
        sure=sure,
        possible=None if None in cuts else chosen | (probabilities >= each(cuts)[:, None]),
        decided=None if None in widths else margins(probabilities, thresholds) >= each(widths)[:, None],
    )
