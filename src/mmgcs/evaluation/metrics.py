"""Multi-label metrics with bootstrap intervals.

A label can be unknown (`mmgcs.labels`). Such a cell has truth False and a probability of NaN, and counts for nothing:
it is never chosen, ranks behind every other film, and is left out of calibration.

Every metric takes a weight for each film. On the films themselves, all weights are 1; a bootstrap resample is a row of
weights that count how often each film was drawn, so that a thousand resamples are a few matrix products. Tests compare
every metric with scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmgcs.wording import METRIC_NAMES

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

OVERALL = tuple(METRIC_NAMES)
"""The metrics that are one number over all genres."""

PER_GENRE = ("precision", "recall", "f1", "average_precision")
"""The metrics that are one number per genre."""

BINS = 10
"""Bins of a calibration error: few enough that a bin of a thousand films is not mostly noise."""

Binning = Literal["equal-mass", "equal-width"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric and its 95% interval: 2.5th to 97.5th percentile of its bootstrap over films (Efron 1979).

    A film drawn twice ties with itself, which raises average precision a little: its intervals lean upwards, and are
    widened to contain the value. All are None if the metric is undefined (the average precision of a genre that no film
    has); the interval is None without a bootstrap.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class GenreScores:
    """How well one genre is predicted."""

    genre: str
    support: int  # films that have it
    chosen: int  # films that it was chosen for
    precision: Estimate  # at the threshold, like recall and F1; 0 if the denominator is 0, as in scikit-learn
    recall: Estimate
    f1: Estimate
    average_precision: Estimate  # the area under the precision-recall curve, whatever the threshold
    ece_equal_mass: float  # expected calibration error with ten bins of equally many films
    ece_equal_width: float  # with ten bins of equal width


@dataclass(frozen=True, slots=True)
class Scores:
    """How well all genres are predicted."""

    films: int  # films that were scored
    micro_f1: Estimate  # F1 over all decisions
    macro_f1: Estimate  # the mean over genres
    samples_f1: Estimate  # the mean over films
    weighted_f1: Estimate  # the mean over genres, weighted by support
    mean_average_precision: Estimate  # the mean of average precision over the genres that some film has
    ece_equal_mass: float  # the mean over genres of the expected calibration error
    ece_equal_width: float
    ece_floor: float  # the equal-mass error that perfect probabilities would show on so few films, by simulation
    genres: tuple[GenreScores, ...]  # each genre's own scores, in the bundle's order


def resample(films: int, count: int, seed: int = 0) -> NDArray[np.float32]:
    """Return how often each film is drawn in each resample: (count, films) float32, rows that add up to films."""
    draws = np.random.default_rng(seed).multinomial(films, np.full(films, 1.0 / films), size=count)
    return draws.astype(np.float32)


def average_precision(truth: Bools, probabilities: Floats, weights: Floats | None = None) -> NDArray[np.float64]:
    """Return the average precision of each genre: Σ (recall step) · precision; films that tie move together.

    Args:
        truth: (films, genres).
        probabilities: (films, genres), or any score that grows with them.
        weights: (resamples, films); None for the films as they are.

    Returns:
        (resamples, genres), or (genres,) without weights; NaN where a genre has no film.
    """
    films, genres = truth.shape
    rows = np.ones((1, films), dtype=np.float32) if weights is None else weights
    result = np.full((len(rows), genres), np.nan)
    for genre in range(genres if films else 0):
        order, last = rank(probabilities[:, genre])
        drawn = rows[:, order]
        hits = np.cumsum(drawn * truth[order, genre], axis=1)[:, last]
        precision = hits / np.maximum(np.cumsum(drawn, axis=1)[:, last], 1e-12)
        total = hits[:, -1]
        there = total > 0
        steps = np.diff(hits, axis=1, prepend=0.0)
        result[there, genre] = (steps * precision).sum(axis=1)[there] / total[there]
    return result[0] if weights is None else result


def macro_average_precision(truth: NDArray[Any], scores: Floats, known: Bools | None = None) -> float:
    """Return the mean average precision over the genres that some film has; 0 if there are none.

    Args:
        truth: (films, genres).
        scores: (films, genres).
        known: (films, genres), False for labels to leave out; None if all are known.
    """
    truth = truth.astype(bool)
    if known is not None:
        truth, scores = truth & known, np.where(known, scores, np.nan)
    values = average_precision(truth, scores)
    return 0.0 if np.isnan(values).all() else float(np.nanmean(values))


def rank(scores: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the order of films (films,) from the highest score, and the positions in it where a run of ties ends."""
    order = np.argsort(-scores, kind="stable")
    return order, np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))


def micro_f1(truth: Bools, chosen: Bools, rows: NDArray[Any]) -> float:
    """Return the micro-F1 of some rows; 0 if nothing is true and nothing chosen."""
    total = int(truth[rows].sum() + chosen[rows].sum())
    return float(2 * (truth & chosen)[rows].sum() / total) if total else 0.0


class Measured:
    """Some films' metrics, on the films themselves and on bootstrap resamples of them.

    Args:
        truth, probabilities, chosen: (films, genres), probabilities NaN where the truth is unknown; without
            probabilities, average precision is left out.
        bootstrap: the number of resamples for the intervals; 0 for none.
        seed: equal seeds and film counts draw the same films, so that two systems can be compared draw by draw.
    """

    def __init__(
        self, truth: Bools, probabilities: Floats | None, chosen: Bools, *, bootstrap: int = 1000, seed: int = 0
    ) -> None:
        self._truth, self._probabilities, self._chosen = truth, probabilities, chosen
        rows = np.ones((1, len(truth)), dtype=np.float32)  # the films themselves, then the resamples
        if bootstrap:
            rows = np.concatenate([rows, resample(len(truth), bootstrap, seed)])
        hits = (rows @ (truth & chosen).astype(np.float32)).astype(np.float64)
        picked = (rows @ chosen.astype(np.float32)).astype(np.float64)
        actual = (rows @ truth.astype(np.float32)).astype(np.float64)
        f1 = _ratio(2 * hits, picked + actual)
        # A resample may have no film of a rare genre; an F1 of zero there would say nothing about the model.
        counted = (actual > 0) | ~truth.any(axis=0)
        by_film = _ratio(2.0 * (truth & chosen).sum(axis=1), chosen.sum(axis=1) + truth.sum(axis=1))
        # By name, those of OVERALL (rows,) and those of PER_GENRE (rows, genres)
        self._values = {
            "micro_f1": _ratio(2 * hits.sum(axis=1), (picked + actual).sum(axis=1)),
            "macro_f1": _ratio((f1 * counted).sum(axis=1), counted.sum(axis=1)),
            "samples_f1": _ratio(rows @ by_film, rows.sum(axis=1, dtype=np.float64)),
            "weighted_f1": _ratio((f1 * actual).sum(axis=1), actual.sum(axis=1)),
            "precision": _ratio(hits, picked),
            "recall": _ratio(hits, actual),
            "f1": f1,
        }
        if probabilities is not None:
            precisions = average_precision(truth, probabilities, rows)
            known = ~np.isnan(precisions)
            mean = _ratio(np.nansum(precisions, axis=1), known.sum(axis=1))
            self._values["average_precision"] = precisions
            self._values["mean_average_precision"] = np.where(known.any(axis=1), mean, np.nan)

    def estimate(self, name: str, genre: int | None = None) -> Estimate:
        """Return one metric with its interval; for those of PER_GENRE, that of the genre with this index."""
        values = self._values[name]
        return _estimate(values if genre is None else values[:, genre])

    def estimates(self) -> dict[str, Estimate]:
        """Return the metrics of OVERALL that were measured."""
        return {name: self.estimate(name) for name in OVERALL if name in self._values}

    def gain(self, other: Measured) -> dict[str, Estimate]:
        """Return how much better this is than `other` on the same films, by the metrics of OVERALL.

        The intervals come from the *same* resamples of both: two systems' own intervals overlap long after their
        difference is certain, as both move with the films drawn.
        """
        return {name: _estimate(self._values[name] - other._values[name]) for name in OVERALL}

    def scores(self, genres: Sequence[str]) -> Scores:
        """Return all scores, with calibration errors; `genres` are the columns' names."""
        assert self._probabilities is not None
        mass = expected_calibration_error(self._truth, self._probabilities)
        width = expected_calibration_error(self._truth, self._probabilities, binning="equal-width")
        per_genre = tuple(
            GenreScores(
                genre=genre,
                support=int(self._truth[:, index].sum()),
                chosen=int(self._chosen[:, index].sum()),
                ece_equal_mass=float(mass[index]),
                ece_equal_width=float(width[index]),
                **{name: self.estimate(name, index) for name in PER_GENRE},
            )
            for index, genre in enumerate(genres)
        )
        return Scores(
            films=len(self._truth),
            ece_equal_mass=float(mass.mean()),
            ece_equal_width=float(width.mean()),
            ece_floor=calibration_floor(self._probabilities),
            genres=per_genre,
            **self.estimates(),
        )


def _estimate(values: Floats) -> Estimate:
    """Return the estimate of a metric from its value (the first) and its values on resamples."""
    value, draws = float(values[0]), values[1:][~np.isnan(values[1:])]
    if np.isnan(value):
        return Estimate(None)
    if not len(draws):
        return Estimate(value)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(value, float(min(low, value)), float(max(high, value)))


def _ratio(over: Any, under: Any) -> NDArray[np.float64]:
    # 0 if the denominator is 0: scikit-learn's zero_division=0.
    under = np.asarray(under, dtype=np.float64)
    result: NDArray[np.float64] = np.divide(over, under, out=np.zeros_like(under), where=under > 0)
    return result


@dataclass(frozen=True, slots=True)
class Bin:
    """Some films of similar probability: their mean probability, the share that has the genre, and their number."""

    predicted: float
    observed: float
    films: int


def assign_bins(probabilities: NDArray[Any], bins: int = BINS, binning: Binning = "equal-mass") -> NDArray[np.int64]:
    """Return the bin of each film (films,), from 0 to bins - 1.

    Args:
        probabilities: (films,) of one genre.
        bins: how many.
        binning: "equal-mass" puts as many films in each (Nguyen and O'Connor 2015), by rank; "equal-width" cuts 0 to 1
            into equal parts (Guo et al. 2017), most of which are nearly empty for a rare genre.
    """
    if binning == "equal-width":
        return np.minimum((np.asarray(probabilities) * bins).astype(np.int64), bins - 1)
    ranks = np.argsort(np.argsort(probabilities, kind="stable"), kind="stable")
    return (ranks * bins // max(len(probabilities), 1)).astype(np.int64)


def expected_calibration_error(
    truth: NDArray[np.bool_], probabilities: NDArray[Any], *, bins: int = BINS, binning: Binning = "equal-mass"
) -> NDArray[np.float64]:
    """Return the error of each genre (genres,): Σ over bins of (films in it / films) · |predicted - observed|.

    Args:
        truth: (films, genres).
        probabilities: (films, genres).
        bins, binning: as in `assign_bins`.
    """
    result = np.zeros(truth.shape[1])
    for genre, (column, there) in enumerate(zip(probabilities.T, truth.T, strict=True)):
        known = ~np.isnan(column)
        gap = column[known].astype(np.float64) - there[known]
        gaps = np.bincount(assign_bins(column[known], bins, binning), gap, bins)
        result[genre] = np.abs(gaps).sum() / max(len(gap), 1)
    return result


def calibration_floor(probabilities: NDArray[Any]) -> float:
    """Return the mean equal-mass calibration error that these probabilities would show if they were perfect.

    In bins of a few films, even perfect probabilities miss by chance, so an error near this floor is as good as zero.
    The floor is simulated by drawing truths from the probabilities (films, genres).
    """
    random = np.random.default_rng(0)
    errors = []
    for column in np.asarray(probabilities, dtype=np.float32).T:
        column = column[~np.isnan(column)]
        member = np.eye(BINS, dtype=np.float32)[assign_bins(column)]  # (films, bins)
        gaps = (random.random((100, len(column)), dtype=np.float32) < column) - column  # (draws, films)
        errors.append(float(np.abs(gaps @ member).sum(axis=1).mean()) / max(1, len(column)))
    return float(np.mean(errors))


def reliability(truth: NDArray[np.bool_], probabilities: NDArray[Any]) -> tuple[Bin, ...]:
    """Return the reliability curve of one genre from (films,) truths and probabilities, in equal-mass bins."""
    known = ~np.isnan(probabilities)
    truth, probabilities = truth[known], probabilities[known]
    index = assign_bins(probabilities)
    return tuple(
        Bin(float(probabilities[index == number].mean()), float(truth[index == number].mean()), int(count))
        for number, count in enumerate(np.bincount(index))
        if count
    )
