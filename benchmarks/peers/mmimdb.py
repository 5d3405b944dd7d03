"""The protocol of MM-IMDb: 23 genres, the paper's split, the paper's metrics, from its folder to a number.

    python benchmarks/peers/mmimdb.py MMIMDB --out runs/mmimdb [--recipe recipes/mmimdb.yaml]

MMIMDB is the unpacked archive: dataset/<id>.json, dataset/<id>.jpeg, split.json. Fits on its train, chooses on its dev,
and reports on its test, without cleaning films or labels; if a film has several plots, the longest is read. Published
scores: GMU .630 micro, .541 macro (Arevalo et al. 2017); MMBT .616 macro (Kiela et al. 2019).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import f1_score

from mmgcs import load
from mmgcs.datasets import read_source
from mmgcs.datasets.sources import mmimdb_folder
from mmgcs.files import write_json
from mmgcs.labels import read_labels
from mmgcs.tables import read_films
from mmgcs.training import train

RECIPE = Path(__file__).parents[2] / "recipes" / "mmimdb.yaml"
AVERAGES = ("micro", "macro", "weighted", "samples")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mmimdb", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    given = parser.parse_args()
    folder = mmimdb_folder(given.mmimdb)
    if folder is None:
        parser.error(f"{given.mmimdb} has no <id>.json files")
    frame = read_source(given.mmimdb, "mmimdb")[1].frame.filter(pl.col("split").is_not_null())
    table = given.out.with_suffix(".parquet")
    table.parent.mkdir(parents=True, exist_ok=True)
    frame.select("id", "title", "year", "plot", "genres", "poster", "labels", "split").write_parquet(table)
    bundle = train(
        given.recipe,
        table,
        given.out,
        posters=folder,
        command="benchmarks/peers/mmimdb.py",
        resume=given.out.exists(),
    )
    classifier = load(bundle.path)
    films = [f for chunk in read_films(table, posters=folder) for f in chunk if f.split == "test" and f.genres]
    truth, _ = read_labels(films, classifier.genres)
    # A film that cannot be read counts as one that was given no genre: the paper's test set has to be answered whole.
    answers = [p for start in range(0, len(films), 256) for p in classifier.predict_batch(films[start : start + 256])]
    chosen = np.array([[genre in answer.genres for genre in classifier.genres] for answer in answers])
    scores = {average: float(f1_score(truth, chosen, average=average, zero_division=0)) for average in AVERAGES}
    counts = {split: frame.filter(pl.col("split") == split).height for split in ("train", "valid", "test")}
    write_json(given.out / "mmimdb.json", {"films": counts, "f1": scores})
    print(f"films: {counts}")
    print("F1 on test: " + ", ".join(f"{average} {score:.3f}" for average, score in scores.items()))
    print("GMU: micro 0.630, macro 0.541; MMBT: macro 0.616")


if __name__ == "__main__":
    main()
