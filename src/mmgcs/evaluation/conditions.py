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
from mmgcs.runtime import Classifier, Features, margins, without

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""

_CHUNK = 128  # films between two reports of progress


@dataclass(frozen=True, slots=True)
class Condition:
    """A way to show films to a bundle.

    Attributes:
        name: its name in reports.
        description: which films, and what of them is shown.
        needs: the inputs that a film must have to count.
        shown: the inputs that are shown.
        title: whether a title is shown where there is one.
    """

    name: str
    description: str
    needs: tuple[str, ...]
    shown: tuple[str, ...] = ("plot", "poster")
    title: bool = True


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
    """What a bundle answers to some films under one condition.

    Attributes:
        rows: (answered,) the films' positions among all films.
        inputs: for each, what was read: "plot", "poster" or "plot+poster".
        probabilities: (answered, genres) calibrated, float32.
        thresholds: (answered, genres) those of each film's inputs, float32.
        confidence: (answered,) as the classifier reports it.
        sure: (answered,) whether that reaches the bundle's threshold for the film's inputs, and none is strange.
        possible: (answered, genres) the prediction sets; None where the bundle states none for some of the inputs.
        decided: (answered, genres) which genres the bundle does not leave open; None where it leaves none for some.
    """

    rows: NDArray[np.int64]
    inputs: tuple[str, ...]
    probabilities: NDArray[np.float32]
    thresholds: NDArray[np.float32]
    confidence: NDArray[np.float64]
    sure: NDArray[np.bool_]
    possible: NDArray[np.bool_] | None = None
    decided: NDArray[np.bool_] | None = None

    def scored(self, columns: Sequence[int], known: NDArray[np.bool_]) -> Answers:
        """Return the answers for some genres only, with NaN as the probability of an unknown label.

        Args:
            columns: the genres' positions.
            known: (answered, columns).
        """
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
    """Whether a bundle reads titles: a branch on plots does unless its options say `use_title: false`."""
    return any(branch.input == "plot" and branch.options.get("use_title", True) for branch in config.branches)


class Showings:
    """Films' features, computed once and reused for every condition: hiding an input only zeroes its branch."""

    def __init__(self, classifier: Classifier, films: Sequence[Film], progress: Progress) -> None:
        """Compute the features of `films`, telling `progress`."""
        self._classifier = classifier
        self._films = films
        self._progress = progress
        self._full = self._features(films, "reading plots and posters")
        self._untitled: Features | None = None
        self._input_of = [branch.input for branch in classifier.bundle.config.branches]
        self._titled = reads_title(classifier.bundle.config) and any(film.title for film in films)

    @property
    def errors(self) -> list[str]:
        """For each film, why it could not be read; "" where it could."""
        return self._full.errors

    def has(self, name: str) -> NDArray[np.bool_]:
        """Which films (films,) have a readable "plot" or "poster"."""
        columns = [index for index, read in enumerate(self._input_of) if read == name]
        there: NDArray[np.bool_] = self._full.present[:, columns].max(axis=1, initial=0.0) > 0
        return there

    def applies(self, condition: Condition) -> bool:
        """Whether a condition says something of its own of this bundle and these films."""
        inputs = self._classifier.bundle.config.inputs
        if not set(condition.needs) <= set(inputs) or not self._rows(condition).size:
            return False
        if condition.shown == ("plot",) and not condition.title:
            return self._titled
        return True

    def answer(self, condition: Condition) -> Answers:
        """What the bundle answers under a condition that applies."""
        features = self._full
        if self._titled and "plot" in condition.shown and not condition.title:
            if self._untitled is None:
                bare = [replace(without(film, "poster"), title=None) for film in self._films]
                self._untitled = self._features(bare, "reading plots without titles")
            features = self._untitled
        return _decide(self._classifier, features, self._rows(condition), condition.shown)

    def _rows(self, condition: Condition) -> NDArray[np.int64]:
        counts = np.array([not error for error in self.errors], dtype=bool)
        for name in condition.needs:
            counts &= self.has(name)
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


def _decide(classifier: Classifier, features: Features, rows: NDArray[np.int64], shown: Sequence[str]) -> Answers:
    config = classifier.bundle.config
    features = features.only(config.branches, shown, rows)
    logits = classifier.logits(features)
    read = np.array([branch.input for branch in config.branches])
    inputs = tuple("+".join(name for name in config.inputs if name in read[there > 0]) for there in features.present)
    probabilities = np.zeros_like(logits)
    thresholds = np.zeros_like(logits)
    least: NDArray[Any] = np.zeros(len(rows))
    for combination in sorted(set(inputs)):
        mine = np.array([one == combination for one in inputs])
        decision = config.decisions[combination]
        probabilities[mine] = classifier.probabilities(logits[mine], combination)
        thresholds[mine] = np.asarray(decision.thresholds, dtype=np.float32)
        least[mine] = decision.confidence
    chosen = choose(probabilities, thresholds)
    confidence = confidences(probabilities, chosen)
    widths = [config.decisions[combination].margin for combination in inputs]
    stated = [width for width in widths if width is not None]
    decided = margins(probabilities, thresholds) >= np.array(stated)[:, None] if len(stated) == len(widths) else None
    cuts = [config.decisions[combination].possible for combination in inputs]
    known = [cut for cut in cuts if cut is not None]
    possible = chosen | (probabilities >= np.array(known)[:, None]) if len(known) == len(cuts) else None
    sure = confidence >= least
    if features.strange is not None:
        sure &= ~features.strange.any(axis=1)
    return Answers(rows, inputs, probabilities, thresholds, confidence, sure, possible, decided)
