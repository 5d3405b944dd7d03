"""Turn logits into a prediction: calibrated probabilities, the chosen genres, and how sure it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgcs.bundle import Decision
from mmgcs.film import Prediction


class DecisionRule:
    """A bundle's decision for one combination of inputs, as arrays."""

    def __init__(self, genres: tuple[str, ...], decision: Decision) -> None:
        self._genres, self._decision = genres, decision
        self._slope = np.asarray(decision.slope, dtype=np.float32)  # (genres,), like those below
        self._intercept = np.asarray(decision.intercept, dtype=np.float32)
        self._thresholds = np.asarray(decision.thresholds, dtype=np.float32)
        self._cuts = log_odds(self._thresholds)

    def odds(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the calibrated log-odds of logits (…, genres)."""
        return logits * self._slope + self._intercept

    def decide(
        self, logits: NDArray[np.float32], inputs: tuple[str, ...], strange: tuple[str, ...], warnings: tuple[str, ...]
    ) -> Prediction:
        """Return the prediction of one film.

        Args:
            logits: (genres,) from the fusion.
            inputs: the inputs that were read.
            strange: those of them that are unlike the model's training films.
            warnings: the prediction's warnings.
        """
        decision, odds = self._decision, self.odds(logits)
        probabilities = sigmoid(odds)
        chosen = probabilities >= self._thresholds
        confidence = float(expected_f1(probabilities, chosen))
        possible = near = np.zeros_like(chosen)
        if decision.possible is not None:
            # Chosen genres are always in the set; that can only raise its coverage.
            possible = chosen | (probabilities >= np.float32(decision.possible))
        if decision.margin is not None:
            near = np.abs(odds - self._cuts) < decision.margin
        order: list[int] = np.argsort(-probabilities, kind="stable").tolist()

        def ranked(mask: NDArray[np.bool_]) -> tuple[str, ...]:
            return tuple(self._genres[index] for index in order if mask[index])

        return Prediction(
            genres=ranked(chosen),
            # float32 holds no more than six digits; rounding keeps outputs equal on every machine.
            probabilities={genre: round(p, 6) for genre, p in zip(self._genres, probabilities.tolist(), strict=True)},
            inputs=inputs,
            confidence=round(confidence, 6),
            sure=confidence >= decision.confidence and not strange,
            possible=ranked(possible),
            undecided=ranked(near),
            strange=strange,
            warnings=warnings,
        )


def sigmoid(logits: NDArray[Any]) -> NDArray[np.float32]:
    """Return the logistic function of logits, without overflow."""
    result: NDArray[np.float32] = (0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits, dtype=np.float32)))).astype(np.float32)
    return result


def expected_f1(probabilities: NDArray[np.float32], chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the F1 (…) of the chosen genres expected from the probabilities, both (…, genres).

    This is the plug-in estimate (Ye et al. 2012), 2 · E[hits] / (chosen + E[true genres]); 0 if none is chosen.
    """
    hits = np.where(chosen, probabilities, np.float32(0)).sum(axis=-1)
    total = chosen.sum(axis=-1, dtype=np.float32) + probabilities.sum(axis=-1)
    result: NDArray[np.float32] = 2 * hits / np.maximum(total, np.float32(1e-9))
    return result


def log_odds(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """Return log(p / (1 - p)), with p clipped to between a millionth and one minus that; same shape."""
    clipped = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-6, 1 - 1e-6)
    result: NDArray[np.float64] = np.log(clipped) - np.log1p(-clipped)
    return result
