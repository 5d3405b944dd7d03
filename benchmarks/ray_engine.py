"""Compare the films per second of `--engine ray` with two workers and of the local engine with two threads.

    python benchmarks/ray_engine.py [--films FILE] [--count 4096] [--part 512] [--rounds 3]

Both count from the first film that is read to the last that is written: loading the model and starting a cluster cost
the same for a thousand films and for ten million. The whole times are printed as well. Without --films the shipped
sample is repeated.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mmgcs.sample import sample_table
from mmgcs.tables import read_films

TARGET = 0.9
LOCAL = """
import sys, time
from pathlib import Path
import mmgcs
from mmgcs.tables import FilmTable
from mmgcs.tagging import tag_table
classifier = mmgcs.load(threads=2)
classifier.predict(plot="A first plot loads what is loaded when it is first used.")
began = time.time()
tag_table(classifier, FilmTable(Path(sys.argv[1])), Path(sys.argv[2]), overwrite=True)
print(time.time() - began)
"""
RAY = """
import sys
from mmgcs.tagging.ray_engine import tag_with_ray
tag_with_ray(sys.argv[1], sys.argv[2], workers=2, part_films=int(sys.argv[3]), overwrite=True)
"""


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def make_shards(films: Path, folder: Path, count: int) -> list[Path]:
    """The films twice: in one table, and in two shards."""
    found = [film for chunk in read_films(films) for film in chunk if film.plot]
    rows = [
        json.dumps({"id": str(n), "title": (f := found[n % len(found)]).title, "plot": f.plot}) for n in range(count)
    ]
    (folder / "shards").mkdir()
    paths = [folder / "films.jsonl", folder / "shards" / "a.jsonl", folder / "shards" / "b.jsonl"]
    for path, part in zip(paths, (rows, rows[: count // 2], rows[count // 2 :]), strict=True):
        path.write_text("\n".join(part), encoding="utf-8")
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=Path, default=sample_table())
    parser.add_argument("--count", type=int, default=4096)
    parser.add_argument("--part", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mmgcs-ray-"))
    ratios = []
    try:
        table, *_ = make_shards(arguments.films, folder, arguments.count)
        for _ in range(arguments.rounds):
            local = float(run(LOCAL, str(table), str(folder / "local.jsonl")))
            began = time.time()
            run(RAY, str(folder / "shards"), str(folder / "out"), str(arguments.part))
            whole = time.time() - began
            steady = json.loads((folder / "out" / "manifest.json").read_text(encoding="utf-8"))["seconds"]
            ratios.append(local / steady)
            print(
                f"local {arguments.count / local:7.1f} films/s   ray {arguments.count / steady:7.1f} films/s   "
                f"ratio {ratios[-1]:.2f}   (ray with its start: {whole:.1f} s)",
                flush=True,
            )
    finally:
        shutil.rmtree(folder)
    print(f"median ratio {statistics.median(ratios):.2f}   target ≥ {TARGET}")


if __name__ == "__main__":
    main()
