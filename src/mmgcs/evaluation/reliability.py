"""Measure whether a probability of 70% comes true 70% of the time. NaN marks an unknown label and is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

BINS = 10
"""Bins of a calibration error: few enough that a bin of a thousand films is not mostly noise."""

Binning = Literal["equal-mass", "equal-width"]


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


def calibration_floor(probabilities: NDArray[Any], *, bins: int = BINS, draws: int = 100, seed: int = 0) -> float:
    """Return the mean equal-mass calibration error that these very probabilities would show if they were right.

    Even perfect probabilities miss by chance in bins of a few films; an error near this floor is as good as none. It is
    found by drawing truths from the probabilities (films, genres).
    """
    random = np.random.default_rng(seed)
    errors = []
    for column in np.asarray(probabilities, dtype=np.float32).T:
        column = column[~np.isnan(column)]
        member = np.eye(bins, dtype=np.float32)[assign_bins(column, bins)]  # (films, bins)
        gaps = (random.random((draws, len(column)), dtype=np.float32) < column) - column  # (draws, films)
        errors.append(float(np.abs(gaps @ member).sum(axis=1).mean()) / max(1, len(column)))
    return float(np.mean(errors))


def reliability(truth: NDArray[np.bool_], probabilities: NDArray[Any], bins: int = BINS) -> tuple[Bin, ...]:
    """Return the reliability curve of one genre from (films,) truths and probabilities, in equal-mass bins."""
    known = ~np.isnan(probabilities)
    truth, probabilities = truth[known], probabilities[known]
    index = assign_bins(probabilities, bins)
    return tuple(
        Bin(float(probabilities[index == number].mean()), float(truth[index == number].mean()), int(count))
        for number, count in enumerate(np.bincount(index, minlength=bins))
        if count
    )
