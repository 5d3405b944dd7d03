"""Measure what making a bundle smaller costs. Prints a table in Markdown: size, speed, macro-F1.

    python benchmarks/compression.py FILMS --posters DIR [--bundle DIR] [--sizes 46 39 31] [--films 1000]

Each row is a bundle made by `mmgcs export --max-size-mb`, fitted on `valid`; `test` is only reported. Speed is for one
film at a time, as a multiple of the original bundle's speed in the same run.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path
from typing import Any

from mmgcs import Film
from mmgcs.bundle import DEFAULT_BUNDLE
from mmgcs.errors import UsageError
from mmgcs.evaluation import evaluate
from mmgcs.runtime import Classifier
from mmgcs.tables import read_films
from mmgcs.training.compress import export_bundle, measure_bundle, open_source

SHOWN = ("all films", "plot only", "poster only")


def macro_f1(conditions: list[dict[str, Any]]) -> list[str]:
    found = {condition["name"]: condition["tuned"]["macro_f1"]["value"] for condition in conditions}
    return [f"{found[name]:.3f}" if name in found else "" for name in SHOWN]


def sample(films: list[Film], split: str, number: int) -> list[Film]:
    own = [film for film in films if film.split == split]
    return random.Random(0).sample(own, min(number, len(own)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--posters", type=Path)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--sizes", type=float, nargs="+", default=[61.0, 46.5, 39.0, 38.0, 31.0, 26.5, 25.0])
    parser.add_argument("--films", type=int, help="films of valid, and of test, that are used; by default all")
    arguments = parser.parse_args()
    films = [film for chunk in read_films(arguments.data, posters=arguments.posters) for film in chunk]
    if arguments.films:
        train = [film for film in films if film.split == "train"]  # its words are counted
        films = [*train, *(film for split in ("valid", "test") for film in sample(films, split, arguments.films))]
    classifier = Classifier(open_source(arguments.bundle))
    test = [film for film in films if film.split == "test"]
    names = " | ".join(f"macro-F1 on test, {name}" for name in SHOWN)
    print(f"| asked | MB | × as fast | mAP on valid | {names} | how |\n|---|---|---|---|{'---|' * len(SHOWN)}---|")
    before = evaluate(classifier, test, bootstrap=0).to_json()["conditions"]
    size = sum(entry["bytes"] for entry in classifier.bundle.files.values()) / 1e6
    precision = measure_bundle(classifier, [film for film in films if film.genres])[1]["valid_mean_average_precision"]
    print(f"| as it is | {size:.1f} | 1.00 | {precision:.4f} | {' | '.join(macro_f1(before))} | |", flush=True)
    for asked in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            try:
                bundle, table = export_bundle(arguments.bundle, Path(folder) / "small", films, size=asked)
            except UsageError as error:
                print(f"| {asked:g} | | | | {' | ' * (len(SHOWN) - 1)} | {error} |", flush=True)
                continue
            if not table:
                continue
            was, now = table
            scores = " | ".join(macro_f1(bundle.card()["evaluation"]["conditions"]))
            print(
                f"| {asked:g} | {now['megabytes']:.1f} | {was['milliseconds'] / now['milliseconds']:.2f} "
                f"| {now['valid_mean_average_precision']:.4f} | {scores} | {now['what']} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
