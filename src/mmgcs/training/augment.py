"""Augmentations of training plots and posters, registered under the names used in a recipe's `augment`.

Each draws from a seeded generator, so that a run is reproducible.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from mmgcs.film import Film
from mmgcs.registry import Registry
from mmgcs.word_vectors import frequent_words, vectors_of

PlotChange = Callable[[str, np.random.Generator], str]
"""Changes a plot without changing its meaning much."""
PosterChange = Callable[[Tensor], Tensor]
"""Changes posters (B, 3, H, W) float32 between 0 and 1, with torch's global generator."""

PLOT_CHANGES: Registry[Callable[..., PlotChange]] = Registry("plot augmentation")
POSTER_CHANGES: Registry[Callable[..., PosterChange]] = Registry("poster augmentation")


@PLOT_CHANGES.register("word_dropout")
def word_dropout(share: float = 0.1) -> PlotChange:
    """Drop a share of the words (Wei & Zou 2019, EDA), but keep at least one."""

    def change(plot: str, random: np.random.Generator) -> str:
        words = plot.split()
        kept = [word for word, out in zip(words, random.random(len(words)) < share, strict=True) if not out]
        return " ".join(kept or words[:1])

    return change


@PLOT_CHANGES.register("sentence_shuffle")
def sentence_shuffle(probability: float = 0.5) -> PlotChange:
    """Shuffle a plot's sentences, with this probability."""

    def change(plot: str, random: np.random.Generator) -> str:
        if random.random() >= probability:
            return plot
        sentences = re.split(r"(?<=[.!?])\s+", plot.strip())
        return " ".join(sentences[index] for index in random.permutation(len(sentences)))

    return change


@PLOT_CHANGES.register("neighbours")
def neighbours(glove: str, share: float = 0.1, nearest: int = 5, words: int = 20_000) -> PlotChange:
    """Replace words by one of their nearest neighbours (Wang & Yang 2015).

    Args:
        glove: a file of word vectors in GloVe's text format.
        share: share of the words that are replaced.
        nearest: number of neighbours, by cosine, to draw from.
        words: only this many of the most common words are replaced or drawn.
    """
    from sklearn.neighbors import NearestNeighbors

    known = frequent_words(Path(glove), words)
    vectors = vectors_of(Path(glove), known)[0]
    found = NearestNeighbors(n_neighbors=min(nearest + 1, len(known)), metric="cosine").fit(vectors)
    near = found.kneighbors(vectors, return_distance=False)[:, 1:]  # without the word itself
    place = {word: index for index, word in enumerate(known)}

    def change(plot: str, random: np.random.Generator) -> str:
        def swap(match: re.Match[str]) -> str:
            word: str = match.group()
            index = place.get(word.lower())
            if index is None or random.random() >= share:
                return word
            new: str = known[near[index, random.integers(near.shape[1])]]
            return new.capitalize() if word[0].isupper() else new

        return re.sub(r"[^\W\d_]+", swap, plot)

    return change


@POSTER_CHANGES.register("crop")
def crop(smallest: float = 0.8) -> PosterChange:
    """Crop a part of at least this share of the poster's area and resize it to the poster's size."""
    from kornia.augmentation import RandomResizedCrop

    def change(posters: Tensor) -> Tensor:
        height, width = posters.shape[2:]
        shape = (0.9 * width / height, 1.1 * width / height)
        return cast(Tensor, RandomResizedCrop((height, width), scale=(smallest, 1.0), ratio=shape)(posters))

    return change


@POSTER_CHANGES.register("flip")
def flip(probability: float = 0.5) -> PosterChange:
    """Mirror the poster, with this probability."""
    from kornia.augmentation import RandomHorizontalFlip

    return cast(PosterChange, RandomHorizontalFlip(p=probability))


@POSTER_CHANGES.register("colour_jitter")
def colour_jitter(
    brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.2, hue: float = 0.02
) -> PosterChange:
    """Change brightness, contrast, saturation and hue by up to these shares."""
    from kornia.augmentation import ColorJiggle

    return cast(PosterChange, ColorJiggle(brightness, contrast, saturation, hue, p=1.0))


@POSTER_CHANGES.register("rand_augment")
def rand_augment(changes: int = 2, strength: int = 10) -> PosterChange:
    """Apply a few random changes of equal strength, from 0 to 30 (Cubuk et al. 2020, RandAugment)."""
    from kornia.augmentation.auto import RandAugment

    return cast(PosterChange, RandAugment(changes, strength))


class Augmenter:
    """Apply the augmentations of a branch, "plot" or "poster", given by name and settings, in the recipe's order."""

    def __init__(self, changes: Sequence[tuple[str, Mapping[str, Any]]], source: str) -> None:
        registry: Registry[Callable[..., Any]] = PLOT_CHANGES if source == "plot" else POSTER_CHANGES
        self._arguments = changes, source
        self._changes: list[Callable[..., Any]] = [registry[kind](**options) for kind, options in changes]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments only: the changes are closures, which cannot be pickled."""
        return Augmenter, self._arguments

    def __bool__(self) -> bool:
        return bool(self._changes)

    def plot(self, film: Film, seed: int) -> Film:
        """Return the film with a changed plot."""
        random = np.random.default_rng(seed)
        plot = film.plot or ""
        for change in self._changes:
            plot = change(plot, random)
        # A film without words would count as unreadable.
        return replace(film, plot=plot) if plot.strip() else film

    def posters(self, pixels: Tensor, seed: int) -> Tensor:
        """Return changed posters (B, H, W, 3) uint8."""
        if not self._changes:
            return pixels
        x = pixels.permute(0, 3, 1, 2).float() / 255.0
        with torch.random.fork_rng(devices=[]), torch.no_grad():  # kornia draws from the global generator
            torch.manual_seed(seed)
            for change in self._changes:
                x = change(x)
        return (x * 255.0).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def cut_and_paste(hidden: Tensor, share: float, random: np.random.Generator) -> tuple[Tensor, float]:
    """Replace a box of each feature map (B, C, H, W) by that of another film in the batch (CutMix, Yun et al. 2019).

    Args:
        hidden: the maps; film i takes the box of film B − 1 − i.
        share: the share of the area that stays, before the box is rounded and clipped at the edges.
        random: draws the place.

    Returns:
        The mixed maps, and the share that stayed.
    """
    height, width = hidden.shape[2:]
    side = float(np.sqrt(1.0 - share))
    middle_y, middle_x = int(random.integers(height)), int(random.integers(width))
    half_y, half_x = side * height / 2, side * width / 2
    top, bottom = max(0, round(middle_y - half_y)), min(height, round(middle_y + half_y))
    left, right = max(0, round(middle_x - half_x)), min(width, round(middle_x + half_x))
    mixed = hidden.clone()
    mixed[:, :, top:bottom, left:right] = hidden.flip(0)[:, :, top:bottom, left:right]
    return mixed, 1.0 - (bottom - top) * (right - left) / (height * width)
