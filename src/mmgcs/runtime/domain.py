"""Detect inputs that are unlike the films the model learned from; their predictions are marked as not sure.

A detector computes some features of an input, its *view*, and measures how far they are from those of films, as the
Mahalanobis distance (Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples";
directions that are not kept share one variance, as in Tipping & Bishop 1999). An input beyond the detector's limit,
which few films of split `valid` exceed, is strange. The detectors are in the bundle's `domain.npz`, small float16
arrays; `mmgcs.evaluation.domain` fits them. A bundle without detectors calls no input strange.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mmgcs.bundle import GET_AGAIN, Bundle
from mmgcs.errors import BundleError
from mmgcs.preprocess import NOT_ENGLISH, Prepared
from mmgcs.registry import Registry

DOMAIN = "domain"
"""The key of the detectors in bundle.json's `extra`."""
DOMAIN_FILE = "domain.npz"

View = Callable[[NDArray[np.float32], Sequence[Prepared]], NDArray[np.float32]]
"""From a branch's features (films, width) and the films' prepared inputs to a detector's features, (films, any)."""

VIEWS: Registry[View] = Registry("view of an input")


@dataclass(frozen=True, slots=True)
class Detector:
    """One test of one branch's inputs.

    Attributes:
        branch: the branch's name.
        view: a name in `VIEWS`.
        limit: inputs at a larger distance are strange.
        mean: (any,) of films.
        whitening: (any, kept), to directions in which films have variance 1.
        scale: (kept,) the standard deviation of films in those directions.
        rest: the variance of films in each other direction; 0 if all are kept.
    """

    branch: str
    view: str
    limit: float
    mean: NDArray[np.float32]
    whitening: NDArray[np.float32]
    scale: NDArray[np.float32]
    rest: float

    def distance(self, seen: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the squared distance (films,) of features (films, any) from those of films."""
        centred = seen - self.mean
        white = centred @ self.whitening
        distance: NDArray[np.float32] = (white**2).sum(1)
        if self.rest:
            distance = distance + ((centred**2).sum(1) - ((white * self.scale) ** 2).sum(1)) / np.float32(self.rest)
        return distance


class Domain:
    """A bundle's detectors.

    Attributes:
        detectors: all of them.
    """

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self.detectors = tuple(detectors)

    def strange(self, branch: str, features: NDArray[np.float32], prepared: Sequence[Prepared]) -> NDArray[np.bool_]:
        """Return which inputs (films,) of a branch are strange.

        Args:
            branch: the branch's name.
            features: (films, width) of the inputs.
            prepared: the inputs.
        """
        found = np.zeros(len(prepared), dtype=bool)
        for detector in self.detectors:
            if detector.branch == branch and len(prepared):
                found |= detector.distance(VIEWS[detector.view](features, prepared)) > detector.limit
        return found

    def spec(self) -> dict[str, Any]:
        """Return the description of the detectors for bundle.json, under `extra`."""
        return {
            "file": DOMAIN_FILE,
            "detectors": [
                {"branch": one.branch, "view": one.view, "limit": one.limit, "rest": one.rest} for one in self.detectors
            ],
        }

    def to_bytes(self) -> bytes:
        """Return the content of `domain.npz`: for the n-th detector `n.mean`, `n.whitening` and `n.scale`, float16."""
        buffer = io.BytesIO()
        arrays: Mapping[str, NDArray[np.float16]] = {
            f"{index}.{name}": getattr(one, name).astype(np.float16)
            for index, one in enumerate(self.detectors)
            for name in ("mean", "whitening", "scale")
        }
        np.savez(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    @classmethod
    def of(cls, bundle: Bundle) -> Domain:
        """Return a bundle's detectors, if it has any. Views that this version does not know are ignored.

        Raises:
            BundleError: the file or its description is damaged.
        """
        spec = bundle.config.extra.get(DOMAIN)
        if spec is None:
            return cls(())
        try:
            with np.load(io.BytesIO(bundle.read(str(spec["file"]))), allow_pickle=False) as arrays:
                detectors = [
                    Detector(
                        str(one["branch"]),
                        str(one["view"]),
                        float(one["limit"]),
                        arrays[f"{index}.mean"].astype(np.float32),
                        arrays[f"{index}.whitening"].astype(np.float32),
                        arrays[f"{index}.scale"].astype(np.float32),
                        float(one["rest"]),
                    )
                    for index, one in enumerate(spec["detectors"])
                    if one["view"] in VIEWS
                ]
        except (KeyError, TypeError, ValueError, OSError, EOFError, BadZipFile) as error:
            raise BundleError(f"{DOMAIN_FILE} cannot be read ({error!r}); {GET_AGAIN}") from error
        return cls(detectors)


@VIEWS.register("features")
def _features(features: NDArray[np.float32], prepared: Sequence[Prepared]) -> NDArray[np.float32]:
    """Return the encoder's own features."""
    del prepared
    return features


@VIEWS.register("english")
def _english(features: NDArray[np.float32], prepared: Sequence[Prepared]) -> NDArray[np.float32]:
    """Return 1 for text that does not read like English, else 0; (films, 1)."""
    del features
    return np.array([[NOT_ENGLISH in one.warnings] for one in prepared], dtype=np.float32)


@VIEWS.register("picture")
def _picture(features: NDArray[np.float32], prepared: Sequence[Prepared]) -> NDArray[np.float32]:
    """Return statistics of the pixels, whatever they show: flat or noisy, colors, sharpness; (films, 14).

    A poster encoder ignores what says nothing about genres: to it, a blank page is an ordinary poster.
    """
    del features
    return np.stack([_pixel_statistics(one.value) for one in prepared])


def _pixel_statistics(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    pixels = pixels[::2, ::2]  # (height, width, 3); a quarter of the pixels says the same in a quarter of the time
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
    return np.array(
        [
            *np.log(np.array(soft) + 0.5),
            (contrast < 2).mean(),
            np.log((slope > 40).mean() + 0.003),
            grey.mean() / 64,
            grey.std() / 32,
            np.log(shares.max()),
            -(shares * np.log(shares)).sum(),
            np.log((shares > 0.0005).sum() + 1),
        ],
        dtype=np.float32,
    )
