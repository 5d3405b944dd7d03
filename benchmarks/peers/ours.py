"""A bundle of ours (the shipped one, or another such as the original's BiLSTM): plots, posters, and both.

    python benchmarks/peers/ours.py --data FILMS --posters DIR [--model DIR]

The original's models are bundles as well: `mmgcs train recipes/text-original.yaml --data FILMS --out runs/bilstm`, then
`--model runs/bilstm/bundle`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from common import Stopwatch, arguments, read, report

from mmgcs import Film, load
from mmgcs.bundle import DEFAULT_BUNDLE
from mmgcs.runtime import Classifier, without


def main() -> None:
    parser = arguments("our bundle")
    parser.add_argument("--model", type=Path, default=DEFAULT_BUNDLE)
    given = parser.parse_args()
    classifier = load(given.model)
    films = read(given)
    inputs = classifier.bundle.config.inputs
    shown: dict[str, list[list[Film]]] = {}
    parts = [films["valid"], films["test"]]
    if "plot" in inputs:
        shown["plot, no title"] = [
            [replace(without(f, "poster"), title=None) for f in part if f.plot] for part in parts
        ]
        shown["plot and title"] = [[without(f, "poster") for f in part if f.plot] for part in parts]
    if "poster" in inputs:
        shown["poster only"] = [[without(f, "plot") for f in part if f.poster] for part in parts]
    if len(inputs) == 2:
        shown["plot, title and poster"] = [[f for f in part if f.plot and f.poster] for part in parts]
    for name, (valid, test) in shown.items():
        watch = Stopwatch()
        scored = [logits(classifier, part) for part in (valid, test)]
        report(f"{classifier.bundle.config.name}: {name}", scored[0], scored[1], watch, classifier.genres)


def logits(classifier: Classifier, films: list[Film]):
    features = classifier.features(films)
    kept = [film for film, error in zip(films, features.errors, strict=True) if not error]
    rows = [row for row, error in enumerate(features.errors) if not error]
    return classifier.logits(features)[rows], kept


if __name__ == "__main__":
    main()
