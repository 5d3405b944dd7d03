"""What a report draws, as numbers small enough to be kept in its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgcs.evaluation.reliability import Bin, reliability

_RECALLS = np.linspace(0.01, 1.0, 100)
_COVERAGES = np.linspace(0.1, 1.0, 46)


@dataclass(frozen=True, slots=True)
class Curves:
    """The curves of one condition.

    Attributes:
        precision: for each genre, the precision where recall first reaches 1%, 2%, … 100%; empty if no film has it.
        reliability: for each genre, its reliability curve.
        coverage: (share of films answered, most confident first; micro-F1 of those) pairs.
        confusions: [missed][chosen] films that have the one genre, unrecognised, and were given the other, wrongly.
    """

    precision: dict[str, list[float]]
    reliability: dict[str, tuple[Bin, ...]]
    coverage: list[tuple[float, float]]
    confusions: list[list[int]]


def draw_curves(
    truth: NDArray[np.bool_],
    probabilities: NDArray[Any],
    chosen: NDArray[np.bool_],
    confidence: NDArray[Any],
    genres: Sequence[str],
) -> Curves:
    """The curves of some films: truth, probabilities and chosen genres (films, genres), confidence (films,)."""
    return Curves(
        precision={genre: precision_at_recall(truth[:, g], probabilities[:, g]) for g, genre in enumerate(genres)},
        reliability={genre: reliability(truth[:, g], probabilities[:, g]) for g, genre in enumerate(genres)},
        coverage=[
            (float(share), micro_f1(truth, chosen, most_confident(confidence, float(share)))) for share in _COVERAGES
        ],
        confusions=((truth & ~chosen).T.astype(np.int64) @ (chosen & ~truth).astype(np.int64)).tolist(),
    )


def precision_at_recall(truth: NDArray[np.bool_], scores: NDArray[Any]) -> list[float]:
    """The precision of one genre (films,) at the highest threshold that reaches each of 100 recalls."""
    if not truth.any():
        return []
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(truth[order])[last]
    # 1e-9: a recall of 0.07 as a share of films must not miss 7 of 100 by a rounding.
    reached = np.searchsorted(hits / hits[-1], _RECALLS - 1e-9)
    return [round(float(value), 4) for value in (hits / (last + 1))[reached]]


def most_confident(confidence: NDArray[Any], share: float) -> NDArray[np.int64]:
    """The positions of the share of films (films,) whose confidence is highest, at least one."""
    count = max(int(np.ceil(share * len(confidence) - 1e-9)), 1)
    return np.argsort(-confidence, kind="stable")[:count]


def micro_f1(truth: NDArray[np.bool_], chosen: NDArray[np.bool_], rows: NDArray[Any]) -> float:
    """Micro-F1 of some rows; 0 where there is nothing true and nothing chosen."""
    total = int(truth[rows].sum() + chosen[rows].sum())
    return float(2 * (truth & chosen)[rows].sum() / total) if total else 0.0
