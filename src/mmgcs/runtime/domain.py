"""Detect pictures that are unlike film posters: photographs, charts, pages of text. Their predictions are not sure.

A poster encoder ignores anything unrelated to genres, so it can be confident about a blank page. The detector computes
fourteen statistics of the pixels and their Mahalanobis distance from those of posters (Lee et al. 2018, "A simple
unified framework for detecting out-of-distribution samples"). `mmgcs.evaluation.fit_pictures` fits it, and bundle.json
keeps its few numbers. A bundle without them calls no picture strange.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgcs.bundle import GET_AGAIN, Bundle
from mmgcs.errors import BundleError

DETECTOR_KEY = "pictures"
"""The key of the detector in bundle.json's `extra`."""


class PictureDetector:
    """A bundle's detector of pictures that are not posters.

    Args:
        mean: (statistics,) of posters.
        whitening: (statistics, statistics), maps to directions in which posters have variance 1.
        limit: pictures at a larger squared distance are strange.
    """

    def __init__(self, mean: Sequence[float], whitening: Sequence[Sequence[float]], limit: float) -> None:
        self._mean = np.array(mean, dtype=np.float32)
        self._whitening = np.array(whitening, dtype=np.float32)
        self._limit = float(limit)

    @classmethod
    def of(cls, bundle: Bundle) -> PictureDetector | None:
        """Return a bundle's detector, or None if it has none. Raises BundleError if its description is damaged."""
        spec: Mapping[str, Any] | None = bundle.config.extra.get(DETECTOR_KEY)
        if spec is None:
            return None
        try:
            detector = cls(**spec)
            detector.strange([np.zeros((16, 16, 3), np.uint8)])
        except (TypeError, ValueError) as error:
            raise BundleError(f"bundle.json: extra.{DETECTOR_KEY} is damaged ({error}); {GET_AGAIN}") from error
        return detector

    def distance(self, statistics: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the squared distances (pictures,) of statistics (pictures, 14) from those of posters."""
        distance: NDArray[np.float32] = (((statistics - self._mean) @ self._whitening) ** 2).sum(1)
        return distance

    def strange(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.bool_]:
        """Return which pictures, each (height, width, 3), are strange."""
        return self.distance(picture_statistics(pictures)) > self._limit


def picture_statistics(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Return statistics of the pixels (pictures, 14): noise, sharpness, contrast, colors."""
    return np.stack([_statistics(pixels) for pixels in pictures])


def _statistics(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    pixels = pixels[::2, ::2]  # (height, width, 3); a quarter of the pixels gives the same statistics
    red, green, blue = (pixels[..., channel].astype(np.float32) for channel in range(3))
    grey = (red + green + blue) / 3
    height, width = grey.shape
    slope = np.abs(grey[:-1, 1:] - grey[:-1, :-1]) + np.abs(grey[1:, :-1] - grey[:-1, :-1])
    bend = np.abs(4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:])
    blocks = grey[: height // 8 * 8, : width // 8 * 8].reshape(height // 8, 8, width // 8, 8)
    contrast = np.sqrt(np.maximum(0, (blocks**2).mean((1, 3)) - blocks.mean((1, 3)) ** 2))
    coarse = (pixels >> 4).astype(np.int32)
    counts = np.bincount(((coarse[..., 0] << 8) | (coarse[..., 1] << 4) | coarse[..., 2]).ravel(), minlength=4096)
    shares = counts[counts > 0] / counts.sum()
    middle, high = slope.size // 2, int(slope.size * 0.99)
    ranked = np.partition(slope, (middle, high), axis=None)
    colour = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    soft = [slope.mean(), ranked[middle], ranked[high], bend.mean(), np.median(contrast), contrast.max(), colour.mean()]
    more = [
        (contrast < 2).mean(),
        np.log((slope > 40).mean() + 0.003),
        grey.mean() / 64,
        grey.std() / 32,
        np.log(shares.max()),
        -(shares * np.log(shares)).sum(),
        np.log((shares > 0.0005).sum() + 1),
    ]
    return np.array([*np.log(np.array(soft) + 0.5), *more], dtype=np.float32)
