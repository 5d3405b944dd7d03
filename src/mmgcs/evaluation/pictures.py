"""Fit the detector of pictures that are not posters. It learns from posters alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgcs.film import Film
from mmgcs.runtime import DETECTOR_KEY, Classifier, PictureDetector, picture_statistics, without

LEAST = {"train": 500, "valid": 100}
"""The fewest posters to fit the detector on."""


def fit_pictures(
    classifier: Classifier, films: Sequence[Film], *, log: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Fit a bundle's detector of strange pictures.

    Args:
        classifier: the loaded bundle.
        films: distances are fitted on those of split "train", the limit on those of "valid".
        log: called with one line about the result.

    Returns:
        The entry for `BundleConfig.extra`; {} for a bundle that reads no posters, or with too few of them.
    """
    if "poster" not in classifier.bundle.config.inputs:
        return {}
    posters = {name: [film for film in films if film.split == name and film.poster is not None] for name in LEAST}
    if any(len(posters[name]) < least for name, least in LEAST.items()):
        log("too few posters to fit the detector of pictures that are not posters")
        return {}
    drawn = np.random.default_rng(0).permutation(len(posters["train"]))[:4000]
    train = _statistics(classifier, [posters["train"][index] for index in drawn])
    mean = train.mean(0)
    variance, directions = np.linalg.eigh(np.cov((train - mean).T.astype(np.float64)))
    # The floor keeps directions of tiny variance from reacting to rounding, which differs between processors.
    whitening = directions / np.sqrt(np.maximum(variance, 0.05 * np.median(variance)) + 1e-12)
    spec = {"mean": mean.tolist(), "whitening": whitening.astype(np.float32).tolist()}
    distance = PictureDetector(**spec, limit=0.0).distance(_statistics(classifier, posters["valid"]))
    # 1.5% of the posters of `valid` may be called strange.
    return {DETECTOR_KEY: {**spec, "limit": float(np.quantile(distance, 0.985))}}


def _statistics(classifier: Classifier, films: Sequence[Film]) -> NDArray[np.float32]:
    """Return the statistics (films, 14) of the posters that can be read."""
    column = next(i for i, branch in enumerate(classifier.bundle.config.branches) if branch.input == "poster")
    found = []
    for film in films:  # one at a time: pixels take a hundred times the memory of their statistics
        (prepared,) = classifier.prepare([without(film, "plot")])
        part = prepared.parts[column] if prepared.parts else None
        if part is not None:
            found.append(picture_statistics([part.value])[0])
    return np.stack(found)
