"""Test whether explanations name the words that matter, by deleting those words.

    python benchmarks/faithfulness.py --data FILMS [--model DIR] [--films 150] [--share 0.2]

For the plots of split test (posters and titles hidden), the predicted genres' probabilities are computed again without
the share of words that the explanation ranks first, and without as many random words (ten draws): "comprehensiveness"
of DeYoung et al. 2020 (ERASER) against chance. Also prints how many predictions' time an explanation takes.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import numpy as np

from mmgcs import Film, load
from mmgcs.runtime import Explanation, explain
from mmgcs.tables import read_films

DRAWS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--films", type=int, default=150)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--split", default="test")
    given = parser.parse_args()
    classifier = load(given.model)
    random = np.random.default_rng(0)
    films = [film for chunk in read_films(given.data) for film in chunk if film.split == given.split and film.plot]
    films = [films[index] for index in random.permutation(len(films))[: given.films]]
    drops, seconds, single, passes = [], 0.0, 0.0, []
    for film in films:
        bare = Film(plot=film.plot)
        started = time.perf_counter()
        classifier.predict_batch([bare])
        middle = time.perf_counter()
        why = explain(classifier, bare)
        seconds += time.perf_counter() - middle
        single += middle - started
        passes.append(why.passes)
        words = [match.span() for match in re.finditer(r"\S+", why.text)]
        count = max(1, round(given.share * len(words)))
        if len(words) < 5:
            continue
        for genre in why.genres:
            ranked = rank(why, genre, words)
            cut = [ranked[:count], *(random.permutation(len(words))[:count] for _ in range(DRAWS))]
            left = [
                Film(plot=" ".join(why.text[a:b] for i, (a, b) in enumerate(words) if i not in set(c))) for c in cut
            ]
            after = [one.probabilities[genre] for one in classifier.predict_batch(left)]
            before = why.prediction.probabilities[genre]
            drops.append((before - after[0], before - float(np.mean(after[1:])), len(words)))
    table = np.array(drops)
    print(f"{len(films)} films, {len(table)} genres; the probability falls, without {given.share:.0%} of the words, by")
    print(f"  the first by the explanation {table[:, 0].mean():.4f}")
    print(
        f"  as many at random            {table[:, 1].mean():.4f}   ratio {table[:, 0].mean() / table[:, 1].mean():.2f}"
    )
    for low, high in ((0, 39), (40, 79), (80, 999)):
        part = table[(table[:, 2] >= low) & (table[:, 2] <= high)]
        if len(part):
            print(
                f"  plots from {low} words: {part[:, 0].mean():.4f} / {part[:, 1].mean():.4f}"
                f" = {part[:, 0].mean() / part[:, 1].mean():.2f}"
            )
    print(f"an explanation: {max(passes)} passes at most; {seconds / single:.1f} times a prediction's time")


def rank(why: Explanation, genre: str, words: list[tuple[int, int]]) -> list[int]:
    """The words' numbers, those of the spans that matter most first."""
    order = sorted(why.spans, key=lambda span: -span.drops[genre])
    return [i for span in order for i, (start, end) in enumerate(words) if span.start <= start and end <= span.end]


if __name__ == "__main__":
    main()
