"""Fit the detector of pictures that are no posters, on posters alone: it needs no examples of other things."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgcs.film import Film
from mmgcs.runtime import PICTURES, Classifier, PictureDetector, picture_statistics, without

SHARE = 0.015
"""The share of the posters of `valid` that may be called strange."""
LEAST = {"train": 500, "valid": 100}
"""Posters needed to fit the detector; with fewer, no picture is called strange."""
MOST = 4000
"""Posters of `train` that are used."""
FLOOR = 0.05
"""The least variance of a direction, as a share of the median: processors round differently."""


def fit_pictures(
    classifier: Classifier, films: Sequence[Film], *, log: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Fit a bundle's detector of strange pictures.

    Args:
        classifier: the bundle, loaded.
        films: films of the splits "train", which the distances are fitted on, and "valid", which the limit is.
        log: called with one line about the result.

    Returns:
        The entry for `BundleConfig.extra`; {} for a bundle that reads no posters, or with too few of them.
    """
    if "poster" not in classifier.bundle.config.inputs:
        return {}
    posters = {name: [film for film in films if film.split == name and film.poster is not None] for name in LEAST}
    if any(len(posters[name]) < least for name, least in LEAST.items()):
        log("too few posters to tell which pictures are none")
        return {}
    drawn = np.random.default_rng(0).permutation(len(posters["train"]))[:MOST]
    train = _statistics(classifier, [posters["train"][index] for index in drawn])
    mean = train.mean(0)
    variance, directions = np.linalg.eigh(np.cov((train - mean).T.astype(np.float64)))
    whitening = directions / np.sqrt(np.maximum(variance, FLOOR * np.median(variance)) + 1e-12)
    spec = {"mean": mean.tolist(), "whitening": whitening.astype(np.float32).tolist()}
    distance = PictureDetector(**spec, limit=0.0).distance(_statistics(classifier, posters["valid"]))
    return {PICTURES: {**spec, "limit": float(np.quantile(distance, 1 - SHARE))}}


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
