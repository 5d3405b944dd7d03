"""Measure how often inputs that are not films are marked as not sure, and how often films are.

    python benchmarks/out_of_domain.py --data FILMS --posters DIR [--model DIR] [--write] [--pictures DIR]

Fits the detector of strange pictures anew from the films' train and valid splits, and compares it with no detector and
with a plain energy score (Liu et al. 2020) that calls as many films of valid strange, on the texts and pictures of
tests/out_of_domain.py. The statistics of pictures were chosen with "tune", "held" and some photographs in view.
`--pictures` adds a folder of your own pictures, such as photographs. `--write` puts the detector into the bundle.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from out_of_domain import pictures, texts

from mmgcs import Film, load
from mmgcs.bundle import CONFIG, DEFAULT_BUNDLE, Bundle, write_bundle
from mmgcs.evaluation import fit_pictures
from mmgcs.runtime import DETECTOR_KEY, Classifier, PictureDetector, without
from mmgcs.tables import read_films


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--posters", type=Path)
    parser.add_argument("--model", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    films = [film for chunk in read_films(given.data, posters=given.posters) for film in chunk]
    classifier = load(given.model)
    extra = fit_pictures(classifier, films, log=print)
    classifier._pictures = PictureDetector(**extra[DETECTOR_KEY]) if extra else None
    valid = [film for film in films if film.split == "valid"]
    sets = {"plot": {"valid": [without(film, "poster") for film in valid if film.plot]}}
    sets["poster"] = {"valid": [without(film, "plot") for film in valid if film.poster]}
    for half in ("tune", "held", "blind"):
        sets["plot"][half] = [Film(plot=text) for _, text in texts(half)]
    for half in ("tune", "held"):
        sets["poster"][half] = [Film(poster=picture) for _, picture in pictures(half)]
    if given.pictures:
        found = sorted(path for path in given.pictures.iterdir() if path.suffix in (".jpg", ".jpeg", ".png"))
        sets["poster"]["own"] = [Film(poster=path) for path in found]
    print(f"{'share not sure':<16}{'films':>7}{'plain':>8}{'energy':>8}{'ours':>8}")
    for kind, each in sets.items():
        if kind in classifier.bundle.config.inputs:
            answers = {name: answer(classifier, kind, chosen) for name, chosen in each.items()}
            unsure, strange, energy = answers["valid"]
            limit = np.quantile(energy, strange.mean())
            for name, (unsure, strange, energy) in answers.items():
                shares = (unsure.mean(), (unsure | (energy < limit)).mean(), (unsure | strange).mean())
                print(f"{f'{kind}, {name}':<16}{len(unsure):>7}" + "".join(f"{share:>8.3f}" for share in shares))
    if given.write:
        old = Bundle(given.model)
        kept = {key: value for key, value in old.config.extra.items() if key != DETECTOR_KEY}
        config = replace(old.config, extra={**kept, **extra})
        write_bundle(given.model, config, lambda folder: old.copy_to(folder, without=(CONFIG,)), replace=True)


def answer(classifier: Classifier, kind: str, films: Sequence[Film]) -> tuple[NDArray[np.bool_], ...]:
    """Return which films are not sure without detectors, which are strange, and the energy of each."""
    rows = []
    for start in range(0, len(films), 64):
        features = classifier.features(films[start : start + 64])
        logits, strange = classifier.logits(features), features.strange
        features.strange = None
        energy = np.logaddexp(0, classifier.odds(logits, kind)).sum(1)
        sure = [one.sure for one in classifier.decide(logits, features)]
        rows += zip(~np.array(sure), strange.any(1), energy, strict=True)
    unsure, strange, energy = zip(*rows, strict=True)
    return np.array(unsure), np.array(strange), np.array(energy)


if __name__ == "__main__":
    main()
