"""`mmgcs data prepare` against the time that polars needs just to read the same file.

Builds a file of the shape of Kaggle's TMDB dump (24 columns) by resampling the films of `--films`: each plot is made of
sentences of several films, so that plots differ as they do in the real dump; 20% have no plot, 30% no genre, 3% repeat
an earlier film's plot, 2% hold entities or mojibake. Then reads it with `polars.read_csv` and prepares it, each in a
process of its own, alternately, and prints the ratio of the medians, by the clock and of processor time, and the
largest resident memory. With `--split 80/10/10` the films are also split, which looks for near-duplicates among all
plots: resampling makes far more of those than a real dump has.

    python benchmarks/data_prepare.py --rows 1200000
    python benchmarks/data_prepare.py --rows 1200000 --split 80/10/10 --repeat 1
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

READ = """
import sys, time, resource, polars
began, worked = time.perf_counter(), time.process_time()
frame = polars.read_csv(sys.argv[1], infer_schema_length=10000)
seconds, worked = time.perf_counter() - began, time.process_time() - worked
"""
PREPARE = """
import sys, time, resource
from pathlib import Path
from mmgcs.datasets import prepare
began, worked = time.perf_counter(), time.process_time()
report = prepare(Path(sys.argv[1]), Path(sys.argv[2]), balance=sys.argv[3], split=sys.argv[4])
seconds, worked = time.perf_counter() - began, time.process_time() - worked
print({key: report[key] for key in ("read", "dropped", "repaired", "kept", "splits", "kept_together",
                                    "largest_genre_difference_points")}, file=sys.stderr)
"""
REPORT = """
import json
mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": seconds, "worked": worked, "mb": mb}))
"""


def build(films: Path, out: Path, rows: int, seed: int = 0) -> None:
    """Write a file of `rows` films with the columns of Kaggle's TMDB dump."""
    rng = np.random.default_rng(seed)
    source = pl.read_csv(films, infer_schema=False).filter(pl.col("plot").is_not_null())
    sentences = source["plot"].str.split(". ").explode().drop_nulls().unique(maintain_order=True)
    words = np.array(sorted(set(" ".join(source["title"].drop_nulls().to_list()).split())))
    with out.open("wb") as handle:
        for start in range(0, rows, 100_000):
            count = min(100_000, rows - start)
            pieces = rng.integers(1, 4, count)
            picked = sentences.gather(rng.integers(0, len(sentences), int(pieces.sum())))
            plots = pl.DataFrame({"row": np.repeat(np.arange(count), pieces), "text": picked})
            plots = plots.group_by("row", maintain_order=True).agg(pl.col("text").str.join(". "))["text"]
            chance = rng.random(count)
            number = pl.Series("n", start + np.arange(count))
            again = pl.Series(rng.integers(0, count, count))
            damage = plots.str.replace("e", "Ã©").str.replace(" and ", " &amp; ")
            genres = (
                source["genres"].gather(rng.integers(0, source.height, count)).str.replace_all("|", ", ", literal=True)
            )
            title = pl.Series([" ".join(words[row]) for row in rng.integers(0, len(words), (count, 3))])
            frame = pl.select(
                id=number,
                title=title,
                vote_average=pl.Series(rng.random(count).round(3) * 10),
                vote_count=pl.Series(rng.integers(0, 9999, count)),
                status=pl.lit("Released"),
                release_date=pl.date(pl.Series(rng.integers(1920, 2025, count)), 6, 1),
                revenue=pl.Series(rng.integers(0, 10**8, count)),
                runtime=pl.Series(rng.integers(1, 200, count)),
                adult=pl.lit("False"),
                backdrop_path=pl.format("/b{}xxxxxxxxxxxxxxxxxxxxx.jpg", number),
                budget=pl.Series(rng.integers(0, 10**7, count)),
                homepage=pl.when(pl.Series(chance < 0.1)).then(pl.format("https://example.org/films/{}", number)),
                imdb_id=pl.format("tt{}", number),
                original_language=pl.lit("en"),
                original_title=title,
                overview=pl.when(pl.Series(chance < 0.20))
                .then(pl.lit(None))
                .when(pl.Series(chance < 0.23))
                .then(plots.gather(again))
                .when(pl.Series(chance < 0.25))
                .then(damage)
                .otherwise(plots),
                popularity=pl.Series(rng.random(count).round(3) * 100),
                poster_path=pl.format("/p{}xxxxxxxxxxxxxxxxxxxxx.jpg", number),
                tagline=pl.when(pl.Series(chance > 0.8)).then(plots.str.head(40)),
                genres=pl.when(pl.Series(rng.random(count) > 0.3)).then(genres),
                production_companies=pl.lit("Example Pictures, Another Company"),
                production_countries=pl.lit("United States of America"),
                spoken_languages=pl.lit("English"),
                keywords=pl.when(pl.Series(chance > 0.7)).then(plots.str.tail(60)),
            )
            frame.write_csv(handle, include_header=start == 0)


def measure(code: str, *arguments: str) -> dict[str, float]:
    result = subprocess.run(
        [sys.executable, "-c", code + REPORT, *arguments], check=True, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    return dict(json.loads(result.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "films.csv")
    parser.add_argument("--rows", type=int, default=1_200_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--balance", default="none", choices=["none", "top10"])
    parser.add_argument("--split", default="none", help="as of mmgcs data prepare")
    parser.add_argument("--keep", type=Path, help="keep the built file here and use it again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.keep or Path(folder) / "tmdb.csv"
        if not path.exists():
            build(options.films, path, options.rows)
        out = Path(folder) / "films.parquet"
        runs = [
            (measure(READ, str(path)), measure(PREPARE, str(path), str(out), options.balance, options.split))
            for _ in range(options.repeat)
        ]
    read, done, read_worked, worked = (
        statistics.median(run[side][what] for run in runs) for what in ("seconds", "worked") for side in (0, 1)
    )
    memory = max(run[1]["mb"] for run in runs)
    print(f"{options.rows:,} rows; polars.read_csv {read:.2f} s; prepare {done:.2f} s, {memory:,.0f} MB at most")
    print(f"ratio {done / read:.2f} (wanted: at most 4), of processor time {worked / read_worked:.2f}")
    print(f"memory {memory / 2048:.2f} of 2 GB")


if __name__ == "__main__":
    main()
