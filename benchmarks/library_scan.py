"""How long `mmgcs library` takes: a scan compared with `find` plus parsing, and a library scanned, tagged and undone.

    python benchmarks/library_scan.py [--folders 10000] [--rounds 3] [--films 1000]

The scan without a model and `find` plus defusedxml are whole processes on the same library, in turns, with the files in
the page cache; the best round counts, by the clock and in processor seconds, which other work on the machine disturbs
less. The limit is held against the latter. Then a library of `--films` films without genres is scanned with the model,
tagged with `--apply` and undone once; every file must be back byte for byte.
"""

from __future__ import annotations

import argparse
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SAMPLES = Path(__file__).parent.parent / "tests" / "data" / "nfo"
LIMIT = 3.0
RUN = "import sys; from mmgcs.cli import main; sys.exit(main())"
PARSE = """
import sys
from defusedxml.ElementTree import parse
films = 0
for line in sys.stdin:
    root = parse(line[:-1]).getroot()
    films += root.findtext("title") is not None
    root.findtext("plot"), [genre.text for genre in root.iter("genre")]
print(films)
"""


def make_library(root: Path, folders: int) -> None:
    """Folders `Title (Year)` with a video, a poster, a picture and one of the sample NFO files."""
    # A link after the XML is no XML to a plain parser; cut it off so that both read the same.
    samples = [path.read_bytes().partition(b"\r\nhttps://")[0] for path in sorted(SAMPLES.glob("*.nfo"))]
    for number in range(folders):
        folder = root / f"Film {number:06} ({1920 + number % 100})"
        folder.mkdir()
        (folder / "movie.nfo").write_bytes(samples[number % len(samples)])
        for name in ("film.mkv", "poster.jpg", "fanart.jpg"):
            (folder / name).touch()


def find_and_parse(root: Path) -> int:
    with subprocess.Popen(["find", str(root), "-name", "*.nfo"], stdout=subprocess.PIPE) as find:
        result = subprocess.run([sys.executable, "-c", PARSE], stdin=find.stdout, capture_output=True, check=True)
    return int(result.stdout)


def scan(root: Path, *options: str) -> int:
    command = [sys.executable, "-c", RUN, "library", "scan", str(root), "--no-predict"]
    result = subprocess.run([*command, *options], capture_output=True, check=True)
    return result.stdout.count(b"movie.nfo")


def cost(way: Callable[[Path], int], root: Path) -> tuple[int, float, float]:
    """What a way counts, and its seconds by the clock and of processor cores."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    films = way(root)
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return films, clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def round_trip(films: int) -> None:
    """Print how long a scan, a tagging and an undo of the whole library take."""
    with tempfile.TemporaryDirectory(prefix="mmgcs-library-") as folder:
        root = Path(folder)
        make_library(root, films)
        for path in root.rglob("movie.nfo"):
            path.write_bytes(re.sub(rb"\s*<genre[^<]*</genre>", b"", path.read_bytes()))
            path.with_name("poster.jpg").unlink()  # an empty file is no picture
        before = {path: path.read_bytes() for path in root.rglob("*.nfo")}
        print(f"{films:,} films without genres")
        for name, *options in (("scan",), ("tag", "--min-confidence", "0", "--apply"), ("undo",)):
            start = time.perf_counter()
            command = [sys.executable, "-c", RUN, "library", name, str(root), *options]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            (*_, summary) = re.findall(r"^\d+ (?:film|file).*", result.stdout, re.MULTILINE)
            print(f"{name:14} {time.perf_counter() - start:7.2f} s   {summary}")
        assert {path: path.read_bytes() for path in root.rglob("*.nfo")} == before, "undo did not bring all back"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folders", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--films", type=int, default=1000)
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="mmgcs-library-"))
    try:
        make_library(root, arguments.folders)
        ways = {
            "find + parse": find_and_parse,
            "scan": scan,
            "scan --json": lambda root: scan(root, "--json"),
        }
        best = {name: [float("inf")] * 2 for name in ways}
        for _ in range(arguments.rounds):
            for name, way in ways.items():
                films, *spent = cost(way, root)
                best[name] = [min(pair) for pair in zip(best[name], spent, strict=True)]
                assert films >= arguments.folders, f"{name} saw {films} films"
    finally:
        shutil.rmtree(root)
    round_trip(arguments.films)
    base = best["find + parse"]
    print(f"{arguments.folders:,} folders, best of {arguments.rounds} rounds")
    print(f"{'':14} {'clock':>9} {'':9} {'processor':>9}")
    for name, (clock, processor) in best.items():
        ratios = (clock / base[0], processor / base[1])
        print(f"{name:14} {clock:7.2f} s  {ratios[0]:5.2f} ×  {processor:7.2f} s  {ratios[1]:5.2f} ×   limit {LIMIT} ×")
    sys.exit(any(processor > LIMIT * base[1] for _, processor in best.values()))


if __name__ == "__main__":
    main()
