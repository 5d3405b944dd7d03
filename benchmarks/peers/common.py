"""What the peers share: the splits, the inputs they may read, and the metrics.

Every peer is fitted on train; `fit_decision`, which we use for our own models, fits its calibration and thresholds on
valid; and it is scored on test. Plots are read without titles unless a peer's name says otherwise.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmgcs import Film
from mmgcs.evaluation import average_precision, fit_decision
from mmgcs.genres import DEFAULT_GENRES
from mmgcs.labels import read_labels
from mmgcs.runtime import sigmoid
from mmgcs.tables import read_films

Logits = NDArray[np.floating]


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="FILMS with genres and splits")
    parser.add_argument("--posters", type=Path, help="the folder its posters lie in")
    return parser


def read(given: argparse.Namespace) -> dict[str, list[Film]]:
    """The films with genres, by split."""
    films = [film for chunk in read_films(given.data, posters=given.posters) for film in chunk if film.genres]
    return {split: [film for film in films if film.split == split] for split in ("train", "valid", "test")}


def plots(films: list[Film]) -> list[Film]:
    """Return the films that have a plot, without their titles and posters."""
    return [replace(film, title=None, poster=None) for film in films if film.plot]


class Stopwatch:
    def __init__(self) -> None:
        self.start = time.perf_counter()

    def __str__(self) -> str:
        return f"{time.perf_counter() - self.start:.0f} s"


def report(
    name: str,
    valid: tuple[Logits, list[Film]],
    test: tuple[Logits, list[Film]],
    watch: Stopwatch,
    genres: tuple[str, ...] = DEFAULT_GENRES,
) -> None:
    """Decide on valid, score test, print one line."""
    decision = fit_decision(valid[0], read_labels(valid[1], genres)[0])
    truth, _ = read_labels(test[1], genres)
    probabilities = sigmoid(test[0] * np.array(decision.slope) + np.array(decision.intercept))
    chosen = probabilities >= np.array(decision.thresholds)
    hits, sizes = (truth & chosen).sum(0), truth.sum(0) + chosen.sum(0)
    micro = 2 * hits.sum() / sizes.sum()
    macro = np.mean(2 * hits / np.maximum(1, sizes))
    precision = np.nanmean(average_precision(truth, probabilities))
    print(f"| {name} | {len(truth):,} | {micro:.3f} | {macro:.3f} | {precision:.3f} | {watch} |", flush=True)
