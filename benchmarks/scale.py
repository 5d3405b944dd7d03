"""Does the cost of a film, or memory, grow with the table? Tag 10,000, 100,000 and 1,000,000 films and compare.

    python benchmarks/scale.py                          # about ten minutes on two cores
    python benchmarks/scale.py --ray --rows 100000      # through Ray, one worker per core

The films are invented: short plots from a word list, the same for the same --seed. The default bundle is that of
`tests/data`, whose graph is a bag of a few words and takes almost no time. So this measures the pipeline (reading,
preprocessing, batching, writing), which is all that could grow with the table, and not the encoder. For films per
second of a real bundle, give `--model` or run `benchmarks/speed.py`. Each size runs in a process of its own, and its
seconds begin after the model is loaded. Processor time and peak memory are this process's, without Ray's workers.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

BUNDLE = Path(__file__).parents[1] / "tests" / "data" / "bundle-1.0"
WORDS = (
    "a ghost haunts the old house and two lovers bake bread while detectives hunt killer who robbed bank in summer "
    "soldier family returns after war to find city ruled by machines singer dreams of stage his sister leaves island"
).split()
LOCAL = """
tag_table(classifier, FilmTable(Path(table)), Path(out, "tagged.parquet"))
"""
RAY = """
from mmgcs.tagging import tag_with_ray
tag_with_ray(table, Path(out, "tagged"), model=classifier.bundle.path)
"""
RUN = """
import json, re, sys, time
from pathlib import Path
import mmgcs
from mmgcs.tables import FilmTable
from mmgcs.tagging import tag_table
table, out, model = sys.argv[1:]
classifier = mmgcs.load(model)
classifier.predict(plot="A first plot, which opens the graphs.")
clock, cpu = time.perf_counter(), time.process_time()
{run}
clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
# Not getrusage: its largest memory counts what the parent had when this process was started.
peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
print(json.dumps([clock, cpu, int(peak) / 1024]))
"""


def write_films(path: Path, rows: int, seed: int) -> None:
    """Write a table of invented films."""
    chance = random.Random(seed)
    with path.open("w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle)
        table.writerow(("id", "title", "year", "plot"))
        for number in range(rows):
            plot = " ".join(chance.choices(WORDS, k=chance.randint(8, 24))).capitalize()
            table.writerow((f"tt{number:07}", f"Film {number}", 1920 + number % 100, f"{plot}."))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--model", type=Path, default=BUNDLE, help="a bundle's folder")
    parser.add_argument("--ray", action="store_true", help="tag through Ray; starting it counts")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    code = RUN.format(run=RAY if arguments.ray else LOCAL)
    smallest = None
    heads = ("films", "seconds", "µs a film", "ratio", "cpu µs a film", "ratio", "peak MiB")
    print("".join(f"{head:>15}" for head in heads))
    for rows in sorted(arguments.rows):
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "films.csv"
            write_films(table, rows, arguments.seed)
            command = [sys.executable, "-W", "ignore", "-c", code, str(table), folder, str(arguments.model)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        clock, cpu, peak = json.loads(done.stdout.splitlines()[-1])
        each = clock / rows * 1e6, cpu / rows * 1e6
        smallest = smallest or each
        ratios = [one / first for one, first in zip(each, smallest, strict=True)]
        costs = [figure for one, ratio in zip(each, ratios, strict=True) for figure in (f"{one:.1f}", f"{ratio:.2f}")]
        print("".join(f"{figure:>15}" for figure in (f"{rows:,}", f"{clock:.1f}", *costs, f"{peak:.0f}")), flush=True)


if __name__ == "__main__":
    main()
