"""From logits to decisions: calibration, thresholds and the confidence under which a prediction is not sure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgcs.bundle import Decision
from mmgcs.evaluation.conformal import fit_possible
from mmgcs.evaluation.metrics import choose
from mmgcs.evaluation.thresholds import fit_thresholds
from mmgcs.runtime import expected_f1, margins, sigmoid

COVERAGE = 0.8
"""The share of films that a prediction should be sure of, and of genres of films that should be decided."""

_LEAST_SLOPE = 1e-3  # a slope of 0 or less would turn a genre's ranking around
_PULL = 5.0  # the weight of five films' worth of evidence that the logits need no scaling


def fit_platt(
    logits: NDArray[Any], truth: NDArray[np.bool_], *, pull: float = _PULL
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Platt scaling of each genre: probability = sigmoid(slope · logit + intercept).

    Fitted by maximum likelihood to Platt's targets (Platt 1999: (n₊ + 1)/(n₊ + 2) and 1/(n₋ + 2) for 1 and 0, a
    prior that keeps a rare genre's curve from turning into a step), with `pull` / 2 · (slope - 1)² added.

    Args:
        logits: (films, genres).
        truth: (films, genres).
        pull: how strongly slopes are held to 1; 0 for not at all.

    Returns:
        slope and intercept, each (genres,); slopes are positive, so calibration never changes a genre's ranking.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    fitted = []
    for scores, there in zip(np.asarray(logits, dtype=np.float64).T, truth.T, strict=True):
        positives = int(there.sum())
        target = np.where(there, (positives + 1) / (positives + 2), 1 / (len(there) - positives + 2))

        def loss(
            x: NDArray[np.float64], scores: NDArray[np.float64] = scores, target: NDArray[np.float64] = target
        ) -> tuple[float, NDArray[np.float64]]:
            z = x[0] * scores + x[1]
            error = expit(z) - target
            value = (np.logaddexp(0.0, z) - target * z).sum() + pull / 2 * (x[0] - 1) ** 2
            return float(value), np.array([(error * scores).sum() + pull * (x[0] - 1), error.sum()])

        result = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[(_LEAST_SLOPE, None), (None, None)])
        fitted.append(result.x)
    slope, intercept = np.array(fitted).T
    return slope, intercept


def confidences(probabilities: NDArray[Any], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The confidence (films,) of each film's chosen genres (films, genres): what the classifier would report."""
    return np.array(
        [expected_f1(row, np.flatnonzero(picked)) for row, picked in zip(probabilities, chosen, strict=True)]
    )


def fit_confidence(confidence: NDArray[Any], coverage: float = COVERAGE) -> float:
    """The confidence that the share `coverage` of films (films,) reaches, so that the rest are called not sure.

    Raises:
        ValueError: `coverage` is not above 0 and at most 1, or there are no films.
    """
    if not 0 < coverage <= 1 or not len(confidence):
        raise ValueError(f"coverage must be above 0 and at most 1, of at least one film; got {coverage}")
    ranked = np.sort(confidence)[::-1]
    return float(ranked[int(np.ceil(coverage * len(ranked))) - 1])


def fit_margin(probabilities: NDArray[Any], thresholds: NDArray[Any], coverage: float = COVERAGE) -> float:
    """The distance from the threshold, in log-odds, that the share `coverage` of all films' genres have.

    Leaving the genres that are nearer undecided is partial abstention (Nguyen and Hüllermeier 2021, "Multilabel
    classification with partial abstention: Bayes-optimal prediction under label independence"): of a film that is
    certainly a comedy and perhaps a romance, the comedy is still told.

    Args:
        probabilities: (films, genres) calibrated.
        thresholds: (genres,).
        coverage: the share of genres of films to decide.

    Raises:
        ValueError: `coverage` is not above 0 and at most 1, or there are no films.
    """
    return max(0.0, fit_confidence(margins(probabilities, thresholds).ravel(), coverage))


def fit_decision(
    logits: NDArray[Any],
    truth: NDArray[np.bool_],
    coverage: float = COVERAGE,
    *,
    more: tuple[NDArray[Any], NDArray[np.bool_]] | None = None,
) -> Decision:
    """Fit how logits become an answer, on held-out films that all have the same combination of inputs.

    Args:
        logits: (films, genres) uncalibrated, from the bundle's fusion graph or the model that it is made from.
        truth: (films, genres).
        coverage: the share of films that a prediction should be sure of, and of genres of films to decide.
        more: logits and truth of further films that the branches did not learn from. Only thresholds are fitted on them
            too: they need many films, while calibration needs films whose genres are as frequent as those to come.

    Raises:
        ValueError: there are no films, or `coverage` is out of range.
    """
    if not len(logits):
        raise ValueError("a decision needs held-out films to be fitted on; got none")
    slope, intercept = fit_platt(logits, truth)
    probabilities = sigmoid(logits * slope + intercept)
    seen, known = probabilities, truth
    if more is not None:
        seen = np.concatenate([seen, sigmoid(more[0] * slope + intercept)])
        known = np.concatenate([known, more[1]])
    thresholds = fit_thresholds(known, seen)
    least = fit_confidence(confidences(probabilities, choose(probabilities, thresholds)), coverage)
    return Decision(
        slope=tuple(map(float, slope)),
        intercept=tuple(map(float, intercept)),
        thresholds=tuple(map(float, thresholds)),
        confidence=least,
        possible=fit_possible(probabilities, truth),
        margin=fit_margin(probabilities, thresholds, coverage),
    )
