"""Turn logits into an answer: calibrated probabilities, the chosen genres, and how sure the answer is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgcs.bundle import Decision
from mmgcs.film import Prediction


@dataclass(frozen=True, slots=True)
class DecisionRule:
    """A bundle's decision as arrays (genres,).

    Attributes:
        genres: the bundle's genres.
        decision: the decision.
        slope, intercept, thresholds: its numbers, float32.
        cuts: the thresholds as log-odds.
    """

    genres: tuple[str, ...]
    decision: Decision
    slope: NDArray[np.float32]
    intercept: NDArray[np.float32]
    thresholds: NDArray[np.float32]
    cuts: NDArray[np.float64]

    @classmethod
    def of(cls, genres: tuple[str, ...], decision: Decision) -> DecisionRule:
        """Return the rule of a bundle's decision."""
        slope, intercept, thresholds = (
            np.asarray(values, dtype=np.float32) for values in (decision.slope, decision.intercept, decision.thresholds)
        )
        return cls(genres, decision, slope, intercept, thresholds, log_odds(thresholds))

    def odds(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the calibrated log-odds of logits (…, genres)."""
        return logits * self.slope + self.intercept

    def decide(
        self, logits: NDArray[np.float32], inputs: tuple[str, ...], strange: tuple[str, ...], warnings: tuple[str, ...]
    ) -> Prediction:
        """Return the prediction of one film.

        Args:
            logits: (genres,) from the fusion.
            inputs: which inputs were read.
            strange: which of them are unlike those the model learned from.
            warnings: for the prediction.
        """
        odds = self.odds(logits)
        probabilities = sigmoid(odds)
        order: list[int] = np.argsort(-probabilities, kind="stable").tolist()
        chosen = probabilities >= self.thresholds
        possible = near = np.zeros(len(order), dtype=bool)
        if self.decision.possible is not None:
            # A chosen genre is possible whatever its probability; that can only make the set cover more.
            possible = chosen | (probabilities >= np.float32(self.decision.possible))
        if self.decision.margin is not None:
            near = np.abs(odds - self.cuts) < self.decision.margin
        confidence = expected_f1(probabilities, np.flatnonzero(chosen))

        def ranked(mask: NDArray[np.bool_]) -> tuple[str, ...]:
            return tuple(self.genres[index] for index in order if mask[index])

        return Prediction(
            genres=ranked(chosen),
            # Six digits are all that float32 holds; rounding keeps outputs equal on every machine.
            probabilities={genre: round(p, 6) for genre, p in zip(self.genres, probabilities.tolist(), strict=True)},
            inputs=inputs,
            confidence=round(confidence, 6),
            sure=confidence >= self.decision.confidence and not strange,
            possible=ranked(possible),
            undecided=ranked(near),
            strange=strange,
            warnings=warnings,
        )


def sigmoid(logits: NDArray[Any]) -> NDArray[np.float32]:
    """Return the logistic function of logits, without overflow."""
    result: NDArray[np.float32] = (0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits, dtype=np.float32)))).astype(np.float32)
    return result


def expected_f1(probabilities: NDArray[np.float32], chosen: Iterable[int]) -> float:
    """Return how good the chosen genres are by the model's own probabilities.

    This is the plug-in estimate of F1 (Ye et al. 2012), 2 · E[hits] / (chosen + E[true genres]); 0 if none is chosen.
    """
    indices = list(chosen)
    if not indices:
        return 0.0
    return float(2.0 * probabilities[indices].sum() / (len(indices) + probabilities.sum()))


def log_odds(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """Return log(p / (1 - p)), with p clipped to between a millionth and one minus that; same shape."""
    clipped = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-6, 1 - 1e-6)
    result: NDArray[np.float64] = np.log(clipped) - np.log1p(-clipped)
    return result


def margins(probabilities: NDArray[Any], thresholds: NDArray[Any]) -> NDArray[np.float64]:
    """Return how far probabilities (…, genres) are from their thresholds, in log-odds (…, genres)."""
    return np.abs(log_odds(probabilities) - log_odds(thresholds))
