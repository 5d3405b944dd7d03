"""From logits to decisions: calibration, thresholds, prediction sets, and when a prediction is not sure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgcs.bundle import Decision
from mmgcs.evaluation.metrics import choose
from mmgcs.evaluation.thresholds import fit_thresholds
from mmgcs.runtime import expected_f1, margins, sigmoid

COVERAGE = 0.8
"""The share of films that a prediction should be sure of, and of genres of films that should be decided."""

STATED = 0.9
"""The share of films whose every genre a prediction set should contain."""

_LEAST_SLOPE = 1e-3  # a slope of 0 or less would turn a genre's ranking around


def fit_logistic(
    features: NDArray[np.float64], target: NDArray[np.float64], *, centre: float, pull: float, least: float
) -> tuple[NDArray[np.float64], float]:
    """Fit a logistic regression by maximum likelihood, its weights held near a value.

    Args:
        features: (features, films).
        target: (films,) between 0 and 1.
        centre: the value that weights are pulled to: `pull` / 2 · (weight - centre)² is added to the loss.
        pull: how strongly, in films' worth of evidence.
        least: the smallest weight allowed.

    Returns:
        the weights (features,) and the intercept.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    def loss(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = x[:-1] @ features + x[-1]
        error = expit(logits) - target
        value = (np.logaddexp(0.0, logits) - target * logits).sum() + pull / 2 * ((x[:-1] - centre) ** 2).sum()
        return float(value), np.append(features @ error + pull * (x[:-1] - centre), error.sum())

    start = np.append(np.full(len(features), centre), 0.0)
    bounds = [*[(least, None)] * len(features), (None, None)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return found[:-1], float(found[-1])


def fit_platt(
    logits: NDArray[Any], truth: NDArray[np.bool_], known: NDArray[np.bool_] | None = None, *, pull: float = 5.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit the Platt scaling of each genre: probability = sigmoid(slope · logit + intercept).

    Fitted to Platt's targets (Platt 1999: (n₊ + 1)/(n₊ + 2) and 1/(n₋ + 2) for 1 and 0), a prior that keeps a rare
    genre's curve from turning into a step.

    Args:
        logits: (films, genres).
        truth: (films, genres).
        known: (films, genres), False where the truth is unknown; None if all of it is known.
        pull: how strongly slopes are held to 1, in films' worth of evidence; 0 for not at all.

    Returns:
        slope and intercept, each (genres,); slopes are positive, so calibration never changes a genre's ranking.
    """
    slope, intercept = np.ones(truth.shape[1]), np.zeros(truth.shape[1])
    for genre in range(truth.shape[1]):
        rows = slice(None) if known is None else known[:, genre]
        there = truth[rows, genre]
        if not len(there):
            continue
        positives = int(there.sum())
        target = np.where(there, (positives + 1) / (positives + 2), 1 / (len(there) - positives + 2))
        scores = np.asarray(logits, dtype=np.float64)[rows, genre][None]
        (slope[genre],), intercept[genre] = fit_logistic(scores, target, centre=1.0, pull=pull, least=_LEAST_SLOPE)
    return slope, intercept


def fit_confidence(confidence: NDArray[Any], coverage: float = COVERAGE) -> float:
    """Return the confidence that the share `coverage` of all (films,) reaches; the rest are marked as not sure.

    Raises:
        ValueError: `coverage` is not above 0 and at most 1, or there are no films.
    """
    if not 0 < coverage <= 1 or not len(confidence):
        raise ValueError(f"coverage must be above 0 and at most 1, of at least one film; got {coverage}")
    ranked = np.sort(confidence)[::-1]
    return float(ranked[int(np.ceil(coverage * len(ranked))) - 1])


def fit_possible(probabilities: NDArray[Any], truth: NDArray[np.bool_], coverage: float = STATED) -> float:
    """Return the probability from which a genre belongs to a film's prediction set.

    Split conformal prediction (Angelopoulos & Bates 2023, "Conformal prediction: a gentle introduction", section 1),
    with a whole film's genres as the label: the *outer sets* of Cauchois, Gupta & Duchi 2021 ("Knowing what you know").
    Of films drawn like the held-out ones, and with the same inputs, at least the stated share has **all** its true
    genres in its set, whatever the model is; a better model makes the sets smaller, not more right. It promises nothing
    for each genre or kind of film by itself, nor for films unlike those held out.

    A film's score is the least probability among its true genres; the cut is the score of rank
    ⌊(films + 1) · (1 - coverage)⌋ from below, which is what makes the guarantee hold for any number of films.

    Args:
        probabilities: (films, genres) calibrated, of held-out films with the same inputs.
        truth: (films, genres); a genre that is unknown is not true.
        coverage: the share of films whose every genre should be in the set.

    Returns:
        The cut, in [0, 1]; 0, which puts every genre into every set, if there are too few films to promise less.

    Raises:
        ValueError: `coverage` is not between 0 and 1.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must be between 0 and 1; got {coverage}")
    # A film without any of the genres is covered by every set.
    scores = np.sort(np.where(truth, probabilities, 1.0).min(axis=1))
    place = int(np.floor((len(scores) + 1) * (1.0 - coverage) + 1e-9))
    # Rounded down, so that the film which the cut was taken from is still in its set after a trip through JSON.
    return max(0.0, float(scores[place - 1]) - 1e-7) if place >= 1 else 0.0


def fit_decision(
    logits: NDArray[Any],
    truth: NDArray[np.bool_],
    coverage: float = COVERAGE,
    *,
    known: NDArray[np.bool_] | None = None,
    more: Sequence[NDArray[Any]] | None = None,
) -> Decision:
    """Fit how logits become an answer, on held-out films that all have the same combination of inputs.

    Args:
        logits: (films, genres) uncalibrated, from the bundle's fusion graph or the model that it is made from.
        truth: (films, genres).
        coverage: the share of films that a prediction should be sure of, and of genres of films to decide.
        known: (films, genres), False where the truth is unknown; None if all of it is known.
        more: logits, truth and, if some is unknown, known of further films that the branches did not learn from. Only
            thresholds are fitted on them too: they need many films, while calibration needs films whose genres are as
            frequent as those to come.

    Raises:
        ValueError: there are no films, or `coverage` is out of range.
    """
    if not len(logits):
        raise ValueError("a decision needs held-out films to be fitted on; got none")
    known = np.ones_like(truth) if known is None else known
    truth = truth & known
    slope, intercept = fit_platt(logits, truth, known)
    probabilities = sigmoid(logits * slope + intercept)
    seen = [(truth, probabilities, known)]
    if more is not None:
        others, their_truth, *rest = more
        seen.append((their_truth, sigmoid(others * slope + intercept), rest[0] if rest else np.ones_like(their_truth)))
    thresholds = fit_thresholds(*(np.concatenate(parts) for parts in zip(*seen, strict=True)))
    confidence = expected_f1(probabilities, choose(probabilities, thresholds))
    # Partial abstention (Nguyen and Hüllermeier 2021, "Multilabel classification with partial abstention"): for a film
    # that is certainly a comedy and perhaps a romance, the comedy is still predicted.
    margin = fit_confidence(margins(probabilities, thresholds).ravel(), coverage)
    return Decision(
        slope=tuple(map(float, slope)),
        intercept=tuple(map(float, intercept)),
        thresholds=tuple(map(float, thresholds)),
        confidence=fit_confidence(confidence, coverage),
        possible=fit_possible(probabilities, truth),
        margin=max(0.0, margin),
    )
