"""Compare the speed of `predict` and `tag` with the bare libraries, and measure the memory of `tag`. Prints ratios.

    python benchmarks/speed.py [--films FILE --posters DIR] [--runs 7] [--only plots …]

Without --films the shipped sample is repeated. The two sides of every ratio are measured alternately, so that a busy
machine slows both; its target is printed next to it. For `tag` the same ratio is given in processor seconds too,
which others on the machine disturb less. `benchmarks/scale.py` compares tables of different lengths.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

import mmgcs
from mmgcs.film import Film
from mmgcs.machine import cores
from mmgcs.runtime import BATCH, BATCHES, Classifier
from mmgcs.sample import sample_films, sample_table
from mmgcs.tables import read_films

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
    print(f"{what:<50} {ours:>12} {reference:>12} {ratio:>8.2f}   target {target}")


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


Cost = tuple[float, float]
"""Seconds by the clock, and of all processor cores."""


def cost(work: Callable[[], object]) -> Cost:
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - cpu


def bare_sessions(classifier: Classifier, films: list[Film], *, decode: bool) -> Callable[[], Cost]:
    """The graphs on inputs that are ready in memory, the most that these sessions can do; or posters decoded first."""
    together: list[Any] = []
    by_themselves: list[Any] = []
    for branch in classifier._branches:
        chosen = [film for film in films if getattr(film, branch.spec.input) is not None]
        prepared = sorted(branch.preprocessor.prepare(chosen), key=lambda item: item.length)
        size = 1 if branch._alone else BATCHES.get(branch.spec.input, BATCH)
        batches = by_themselves if branch._alone else together
        session = branch._session(1) if branch._alone else branch.session
        batches += [
            (session, branch.preprocessor.collate(prepared[start : start + size]))
            for start in range(0, len(prepared), size)
        ]
    posters = next(branch for branch in classifier._branches if branch.spec.input == "poster").preprocessor

    def run() -> None:
        if decode:
            with ThreadPoolExecutor(cores()) as pool:
                list(
                    pool.map(lambda film: posters.prepare([film]), (film for film in films if film.poster is not None))
                )
        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(lambda pair: pair[0].run(None, pair[1]), by_themselves))
        for session, inputs in together:
            session.run(None, inputs)

    return lambda: cost(run)


def write_table(films: Iterable[Film], path: Path, posters: Path) -> None:
    with path.open("w", encoding="utf-8") as handle:
        for index, film in enumerate(films):
            poster = str(Path(film.poster).relative_to(posters)) if isinstance(film.poster, Path) else None
            row = {"id": f"{index}", "title": film.title, "plot": film.plot, "poster": poster}
            handle.write(json.dumps(row) + "\n")


TAG = r"""
import re, sys, time
from pathlib import Path
import mmgcs
from mmgcs.tables import FilmTable
from mmgcs.tagging import tag_table
from mmgcs.sample import sample_films
table, out, posters = sys.argv[1:]
classifier = mmgcs.load()
classifier.predict_batch(sample_films()[:2])  # graphs are opened when first used
clock, cpu = time.perf_counter(), time.process_time()
tag_table(classifier, FilmTable(Path(table), posters=Path(posters)), Path(out))
spent = time.perf_counter() - clock, time.process_time() - cpu
# Not getrusage: its largest memory counts what the parent had when this process was started.
print(*spent, int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def tag_process(table: Path, posters: Path) -> tuple[float, float, float]:
    """Seconds of tagging by the clock and of processor cores, after loading, and the largest resident memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [str(table), str(Path(folder) / "out.jsonl"), str(posters)]
        done = subprocess.run([sys.executable, "-c", TAG, *arguments], check=True, capture_output=True, text=True)
    clock, cpu, memory = map(float, done.stdout.split())
    return clock, cpu, memory


def tagging(name: str, classifier: Classifier, films: list[Film], posters: Path, runs: int) -> None:
    decode = name == "posters"
    chosen = films if decode else [replace(film, poster=None) for film in films if film.plot]
    bare = bare_sessions(classifier, chosen, decode=decode)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "films.jsonl"
        write_table(chosen, table, posters)
        pairs = [(tag_process(table, posters), bare()) for _ in range(runs + 1)][1:]
    for kind, what in enumerate(("films a second", "films a core-second")):
        ours = statistics.median(len(chosen) / pair[0][kind] for pair in pairs)
        theirs = statistics.median(len(chosen) / pair[1][kind] for pair in pairs)
        ratio = statistics.median(pair[1][kind] / pair[0][kind] for pair in pairs)
        target = "≥ 0.85" if decode else "≥ 0.90"
        show(f"tag {name} / bare sessions, {what}", f"{ours:.0f}", f"{theirs:.0f}", ratio, target)


def memory(films: list[Film], posters: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for times in (1, 10):
            table = Path(folder) / f"memory{times}.jsonl"
            write_table(films * times, table, posters)
            largest = tag_process(table, posters)[2]
            print(f"{'resident memory of tag,':<24}{len(films) * times:>10,} films {largest:>8.0f} MiB   target < 700")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=Path)
    parser.add_argument("--posters", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--runs", type=int, default=7)
    parts = ("start", "predict", "plots", "posters", "memory")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
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
    print(f"onnxruntime {ort.__version__}, numpy {np.__version__}, {cores()} cores, {len(films):,} films")
    print(f"{'':<50} {'ours':>12} {'reference':>12} {'ratio':>8}")
    few = max(3, arguments.runs // 2)
    if "start" in arguments.only:
        process_start(arguments.runs)
    if "predict" in arguments.only:
        warm_predict(classifier, arguments.runs)
    for name in ("plots", "posters"):
        if name in arguments.only:
            tagging(name, classifier, films, posters, few)
    if "memory" in arguments.only:
        memory(films, posters)


if __name__ == "__main__":
    main()
