"""How fast `predict` and `tag` are beside the bare libraries, and how much memory `tag` takes. Prints ratios.

    python benchmarks/speed.py [--films FILE --posters DIR] [--runs 7]

Without --films the shipped sample is repeated. Every ratio is between two things measured by turns in this run, so
that a busy machine slows both; the target stands beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort

import mmgcs
from mmgcs.catalog import read_films
from mmgcs.film import Film
from mmgcs.runtime import Classifier
from mmgcs.runtime.classifier import BATCH
from mmgcs.sample import sample_films, sample_table

PLOT = "A detective with a troubled past hunts a killer through the rain-soaked streets of a city that never sleeps."


def by_turns(ours: Callable[[], float], reference: Callable[[], float], runs: int) -> tuple[float, float, float]:
    """Median seconds of ours and of the reference, and the median of the ratios of neighbouring runs."""
    pairs = [(ours(), reference()) for _ in range(runs + 1)][1:]
    return (
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        statistics.median(pair[0] / pair[1] for pair in pairs),
    )


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def show(what: str, ours: str, reference: str, ratio: float, target: str) -> None:
    print(f"{what:<42} {ours:>12} {reference:>12} {ratio:>8.2f}   target {target}")


def process_start(runs: int) -> None:
    def run(*arguments: str) -> float:
        return seconds(lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL))

    ours, bare, ratio = by_turns(
        lambda: run("-m", "mmgcs", "predict", "--plot", PLOT),
        lambda: run("-c", "import onnxruntime, numpy, PIL"),
        runs,
    )
    show("predict as a process / bare imports", f"{ours * 1e3:.0f} ms", f"{bare * 1e3:.0f} ms", ratio, "≤ 2.5")


def warm_predict(classifier: Classifier, runs: int) -> None:
    branch = classifier._branches[0]
    prepared = branch.preprocessor.prepare([Film(plot=PLOT)])
    inputs = branch.preprocessor.collate(prepared)

    def many(work: Callable[[], object]) -> float:
        return seconds(lambda: [work() for _ in range(100)]) / 100

    ours, bare, ratio = by_turns(
        lambda: many(lambda: classifier.predict(plot=PLOT)),
        lambda: many(lambda: branch.session.run(None, inputs)),
        runs,
    )
    show("warm predict / bare graph", f"{ours * 1e3:.2f} ms", f"{bare * 1e3:.2f} ms", ratio, "≤ 1.3")


def bare_throughput(classifier: Classifier, films: list[Film]) -> Callable[[], float]:
    """The graphs on inputs that are ready in memory: the most that these sessions can do."""
    batches = []
    for branch in classifier._branches:
        chosen = [film for film in films if getattr(film, branch.spec.input) is not None]
        prepared = sorted(branch.preprocessor.prepare(chosen), key=lambda item: item.length)
        batches += [
            (branch.session, branch.preprocessor.collate(prepared[start : start + BATCH]))
            for start in range(0, len(prepared), BATCH)
        ]
    return lambda: seconds(lambda: [session.run(None, inputs) for session, inputs in batches])


def decoding(classifier: Classifier, films: list[Film]) -> Callable[[], float]:
    """Bare sessions, with posters decoded first on every core: what `tag` must do at the least."""
    from concurrent.futures import ThreadPoolExecutor

    graphs = bare_throughput(classifier, films)
    posters = [film for film in films if film.poster is not None]
    branch = next(branch for branch in classifier._branches if branch.spec.input == "poster")

    def run() -> float:
        def decode() -> None:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(lambda film: branch.preprocessor.prepare([film]), posters))

        return seconds(decode) + graphs()

    return run


def write_table(films: list[Film], path: Path, posters: Path) -> None:
    with path.open("w", encoding="utf-8") as handle:
        for index, film in enumerate(films):
            poster = str(Path(film.poster).relative_to(posters)) if isinstance(film.poster, Path) else None
            row = {"id": f"{index}", "title": film.title, "plot": film.plot, "poster": poster}
            handle.write(json.dumps(row) + "\n")


TAG = """
import resource, sys, time
from pathlib import Path
import mmgcs
from mmgcs.catalog import open_films
from mmgcs.runtime.batch import tag_table
classifier = mmgcs.load()
begun = time.perf_counter()
with open_films(Path(sys.argv[1]), posters=Path(sys.argv[3])) as table:
    tag_table(classifier, table, Path(sys.argv[2]))
print(time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def tag_process(table: Path, posters: Path) -> tuple[float, float]:
    """Seconds of tagging, after loading, and the largest resident memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [sys.executable, "-c", TAG, str(table), str(Path(folder) / "out.jsonl"), str(posters)]
        done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    taken, memory = done.stdout.split()
    return float(taken), float(memory)


def tagging(classifier: Classifier, films: list[Film], posters: Path, runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, chosen, reference, target in (
            ("plots", [replace(film, poster=None) for film in films if film.plot], bare_throughput, "≥ 0.85"),
            ("posters", films, decoding, "≥ 0.85"),
        ):
            table = Path(folder) / f"{name}.jsonl"
            write_table(chosen, table, posters)
            ours, bare, _ = by_turns(lambda t=table: tag_process(t, posters)[0], reference(classifier, chosen), runs)
            show(
                f"tag with {name} / bare sessions, films a second",
                f"{len(chosen) / ours:.0f}",
                f"{len(chosen) / bare:.0f}",
                bare / ours,
                target,
            )
        for times in (1, 10):
            table = Path(folder) / f"memory{times}.jsonl"
            write_table(films * times, table, posters)
            memory = tag_process(table, posters)[1]
            print(f"{'resident memory of tag,':<24}{len(films) * times:>10,} films {memory:>8.0f} MiB   target < 700")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=Path)
    parser.add_argument("--posters", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    if arguments.films is None:
        films, posters = sample_films() * 20, sample_table().parent
    else:
        posters = arguments.posters or arguments.films.parent
        found = [film for chunk in read_films(arguments.films, posters=posters) for film in chunk]
        films = [film for film in found if film.split == arguments.split]
    posters = posters.resolve()
    films = [replace(film, poster=film.poster.resolve() if isinstance(film.poster, Path) else None) for film in films]
    classifier = mmgcs.load()
    print(f"onnxruntime {ort.__version__}, numpy {np.__version__}, {os.cpu_count()} cores, {len(films):,} films")
    print(f"{'':<42} {'ours':>12} {'reference':>12} {'ratio':>8}")
    process_start(arguments.runs)
    warm_predict(classifier, arguments.runs)
    tagging(classifier, films, posters, max(3, arguments.runs // 2))


if __name__ == "__main__":
    main()
