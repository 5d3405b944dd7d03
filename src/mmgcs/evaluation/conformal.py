"""Prediction sets with a stated coverage: the genres that a film may have.

Split conformal prediction (Angelopoulos & Bates 2023, "Conformal prediction: a gentle introduction", section 1), with
a whole film's genres as the label: the *outer sets* of Cauchois, Gupta & Duchi 2021 ("Knowing what you know: valid and
validated confidence sets in multiclass and multilabel prediction"). The guarantee is marginal: of films drawn like the
held-out ones, and with the same inputs, at least the stated share has **all** its true genres in its set. It holds
whatever the model is; a better model makes the sets smaller, not more right. It says nothing of each genre or kind of
film by itself, nor of films unlike those held out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STATED = 0.9
"""The share of films whose every genre a set shall hold."""


@dataclass(frozen=True, slots=True)
class SetScores:
    """What prediction sets turned out to hold.

    Attributes:
        stated: the share of films that they were fitted to cover.
        covered: the share of films whose every true genre was in the set.
        recall: the share of all true genres that were.
        size: genres in a set, on average.
    """

    stated: float
    covered: float
    recall: float
    size: float


def fit_possible(probabilities: NDArray[Any], truth: NDArray[np.bool_], coverage: float = STATED) -> float:
    """The probability from which a genre belongs to a film's set.

    A film's score is the least probability among its true genres; the cut is the score of rank
    ⌊(films + 1) · (1 - coverage)⌋ from below, which is what makes the guarantee hold for any number of films.

    Args:
        probabilities: (films, genres) calibrated, of held-out films with the same inputs.
        truth: (films, genres).
        coverage: the share of films whose every genre shall be in the set.

    Returns:
        The cut, in [0, 1]; 0, which puts every genre into every set, where there are too few films to promise less.

    Raises:
        ValueError: `coverage` is not between 0 and 1.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must be between 0 and 1; got {coverage}")
    # A film without any of the genres is covered by every set.
    scores = np.sort(np.where(truth, probabilities, 1.0).min(axis=1))
    rank = int(np.floor((len(scores) + 1) * (1.0 - coverage) + 1e-9))
    # Rounded down, so that the film which the cut was taken from is still in its set after a trip through JSON.
    return max(0.0, float(scores[rank - 1]) - 1e-7) if rank >= 1 else 0.0


def score_sets(sets: NDArray[np.bool_], truth: NDArray[np.bool_], stated: float = STATED) -> SetScores:
    """What sets (films, genres) hold of the truth (films, genres)."""
    return SetScores(
        stated=stated,
        covered=float((sets | ~truth).all(axis=1).mean()),
        recall=float((sets & truth).sum() / max(1, truth.sum())),
        size=float(sets.sum(axis=1).mean()),
    )
