"""Compare the speed and memory of this checkout with an earlier one, in one run. Prints ratios: below 1 is faster.

    git worktree add --detach ../before COMMIT
    python benchmarks/two_versions.py ../before [--model DIR] [--rounds 5] [--seconds 10]

Both run in this Python environment with the same bundle, by default the earlier checkout's own, which both can read.
They take turns, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import polars
from library_scan import make_library
from serve import CLIENTS, load, post, server
from speed import PLOT

from mmgcs.sample import sample_films, sample_table

HERE = Path(__file__).parents[1]


def source(checkout: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(checkout / "src")}


# In a process of its own, since a child's largest memory counts that of its parent at the start.
MEASURE = """
import resource, subprocess, sys, time
began = time.perf_counter()
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(status, time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def run(checkout: Path, *arguments: str) -> tuple[float, float]:
    """Run `mmgcs` of a checkout. Returns its seconds and the largest memory in MiB."""
    command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "mmgcs", *arguments]
    result = subprocess.run(command, env={**os.environ, **source(checkout)}, capture_output=True, text=True, check=True)
    status, seconds, memory = map(float, result.stdout.split())
    if status:
        raise SystemExit(f"{checkout}: mmgcs {' '.join(arguments)} failed: {result.stderr}")
    return seconds, memory


def show(what: str, before: list[float], after: list[float], unit: str) -> None:
    ratio = statistics.median(new / old for old, new in zip(before, after, strict=True))
    old, new = statistics.median(before), statistics.median(after)
    print(f"{what:44} {old:10.3f} {new:10.3f} {unit:4} ratio {ratio:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="an earlier checkout")
    parser.add_argument("--model", type=Path, help="a bundle's folder; by default the earlier checkout's own")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement of the servers")
    arguments = parser.parse_args()
    before = arguments.before.resolve()
    model = str((arguments.model or before / "src" / "mmgcs" / "bundles" / "default").resolve())
    films = sample_films()
    print(f"{'':44} {'before':>10} {'after':>10}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plots = [{"id": str(number), "plot": films[number % len(films)].plot} for number in range(1000)]
        polars.DataFrame(plots).write_csv(folder / "plots.csv")
        shown = [film for film in films if film.poster]
        posters = [
            {"id": str(number), "poster": str(Path(str(shown[number % len(shown)].poster)).resolve())}
            for number in range(200)
        ]
        polars.DataFrame(posters).write_csv(folder / "posters.csv")
        (folder / "library").mkdir()
        make_library(folder / "library", 1000)
        out = ("--out", str(folder / "out.csv"), "--overwrite", "--quiet", "--model", model)
        jobs = {
            "predict, one plot": ("predict", "--json", "--model", model, "--plot", PLOT),
            "tag, 1,000 plots": ("tag", str(folder / "plots.csv"), *out),
            "tag, 200 posters": (
                *("tag", str(folder / "posters.csv"), *out),
                *("--posters", str(sample_table().parent)),
            ),
            "library scan, 1,000 films, no model": ("library", "scan", str(folder / "library"), "--no-predict"),
        }
        for what, command in jobs.items():
            both = [(run(before, *command), run(HERE, *command)) for _ in range(arguments.rounds + 1)][1:]
            show(f"{what}: time", [old[0] for old, _ in both], [new[0] for _, new in both], "s")
            show(f"{what}: memory", [old[1] for old, _ in both], [new[1] for _, new in both], "MiB")
        asked = [post("/predict", {"plot": film.plot}) for film in films if film.plot]
        serving = [server(Path(model), **source(checkout)) for checkout in (before, HERE)]
        with serving[0] as (old, _), serving[1] as (new, _):
            for what, clients in (("serve, one client: p50", 1), (f"serve, {CLIENTS} clients: time per film", CLIENTS)):
                seconds: dict[int, list[float]] = {old: [], new: []}
                for turn in range(arguments.rounds + 1):
                    for port, found in seconds.items():
                        rate, latencies = load(port, asked, clients, arguments.seconds / 2 if turn else 1)
                        if turn:
                            found.append(1000 * (statistics.median(latencies) if clients == 1 else 1 / rate))
                show(what, seconds[old], seconds[new], "ms")


if __name__ == "__main__":
    main()
