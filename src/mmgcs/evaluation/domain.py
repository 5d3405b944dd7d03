"""Fitting the detectors of inputs that are no films, on films alone: no examples of other things are needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmgcs.bundle import CONFIG, Branch, Bundle, write_bundle
from mmgcs.film import Film
from mmgcs.preprocess import PREPROCESSORS, Prepared
from mmgcs.runtime import DOMAIN, DOMAIN_FILE, VIEWS, Classifier, Detector, Domain, without

SHARE = 0.0075
"""The share of `valid` that each detector may call strange."""

LEAST = {"train": 500, "valid": 100}
"""Films with an input that a branch needs for detectors of its own; with fewer, no input of it is called strange."""

MOST = 4000
"""Films of train that distances are fitted on."""

KEPT = 128
"""Directions that are kept of a view with more than `WIDE`."""
WIDE = 512

FLOOR = 0.05
"""The least variance of a direction, as a share of the median: int8 rounds differently from processor to processor, and
directions in which films hardly differ would show that and nothing else."""


def fit_domain(
    classifier: Classifier,
    films: Sequence[Film],
    *,
    branches: Collection[str] | None = None,
    share: float = SHARE,
    seed: int = 0,
    log: Callable[[str], None] = lambda line: None,
) -> Domain:
    """Fit a bundle's detectors of strange inputs.

    Args:
        classifier: the bundle, loaded.
        films: films of the splits "train", which distances are fitted on, and "valid", which limits are.
        branches: the branches to fit detectors for; None for all.
        share: the share of `valid` that each detector may call strange.
        seed: which films of train are drawn, where there are more than `MOST`.
        log: told what was fitted, a line a branch.

    Returns:
        The detectors; none for branches with fewer films than `LEAST`.
    """
    detectors: list[Detector] = []
    for branch in classifier.bundle.config.branches:
        if branches is not None and branch.name not in branches:
            continue
        parts = {name: _films_with(branch, films, name) for name in LEAST}
        if any(len(parts[name]) < least for name, least in LEAST.items()):
            log(f"{branch.name}: too few films to tell what is none")
            continue
        drawn = np.random.default_rng(seed).permutation(len(parts["train"]))[:MOST]
        parts["train"] = [parts["train"][index] for index in drawn]
        seen = {name: _see(classifier, branch, chosen) for name, chosen in parts.items()}
        fitted = []
        for view in PREPROCESSORS[branch.kind](branch.options, classifier.bundle.read).views:
            train, valid = (VIEWS[view](*seen[name]) for name in ("train", "valid"))
            one = _nothing(branch, valid, share) if view == "english" else _fit(branch, view, train, valid, share)
            if one is not None:
                fitted.append(one)
        strange = Domain(fitted).strange(branch.name, *seen["valid"]).mean()
        log(f"{branch.name}: {', '.join(one.view for one in fitted)}; {strange:.1%} of valid is called strange")
        detectors += fitted
    return Domain(detectors)


def add_domain(path: Path, domain: Domain) -> Bundle:
    """Put detectors into the bundle at `path`, in place of any that it has. The bundle is replaced whole."""
    old = Bundle(path)
    extra = {**old.config.extra, DOMAIN: domain.spec()}

    def fill(folder: Path) -> None:
        old.copy_to(folder, without=(CONFIG, DOMAIN_FILE))
        (folder / DOMAIN_FILE).write_bytes(domain.to_bytes())

    return write_bundle(path, replace(old.config, extra=extra), fill, replace=True)


def _films_with(branch: Branch, films: Sequence[Film], split: str) -> list[Film]:
    other = "poster" if branch.input == "plot" else "plot"
    return [without(film, other) for film in films if film.split == split and getattr(film, branch.input)]


def _see(classifier: Classifier, branch: Branch, films: Sequence[Film]) -> tuple[NDArray[np.float32], list[Prepared]]:
    """A branch's features (films, width) of films that it can read, and their prepared inputs."""
    column = classifier.bundle.config.branches.index(branch)
    features, prepared = [], []
    for start in range(0, len(films), 128):
        ready = [one for one in classifier.prepare(films[start : start + 128]) if one.error is None]
        if ready:
            features.append(classifier.features_of(ready, check=False).values[branch.name])
            prepared += [one.parts[column] for one in ready]
    return np.concatenate(features), [one for one in prepared if one is not None]


def _fit(
    branch: Branch, view: str, train: NDArray[np.float32], valid: NDArray[np.float32], share: float
) -> Detector | None:
    mean = train.mean(0)
    variance, directions = np.linalg.eigh(np.cov((train - mean).T.astype(np.float64)))
    variance, directions = variance[::-1], directions[:, ::-1]
    kept = len(variance) if len(variance) <= WIDE else KEPT
    rest = float(variance[kept:].mean()) if kept < len(variance) else 0.0
    differing = variance[variance > 1e-6 * variance[0]]  # features that are the same of all films have none
    if not variance[0] > 0:
        return None
    scale = np.sqrt(np.maximum(variance[:kept], FLOOR * np.median(differing)))
    one = Detector(branch.name, view, 0.0, _half(mean), _half(directions[:, :kept] / scale), _half(scale), rest)
    return replace(one, limit=float(np.quantile(one.distance(valid), 1 - share)))


def _nothing(branch: Branch, valid: NDArray[np.float32], share: float) -> Detector | None:
    """A detector that needs no fitting: what it sees is 0 of films. None where it is not, as of plots in German."""
    if (valid > 0).mean() > share:
        return None
    width = valid.shape[1]
    nothing = np.zeros(0, dtype=np.float32)
    return Detector(branch.name, "english", 0.5, np.zeros(width, np.float32), nothing.reshape(width, 0), nothing, 1.0)


def _half(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rounded to float16 as the bundle will hold it, so that limits are fitted to what will be measured."""
    return values.astype(np.float16).astype(np.float32)
