"""Measure each augmentation: the same small training with and without it. Prints a table in Markdown.

    python benchmarks/augmentation.py text FILMS --glove FILE [--films 2000] [--seeds 2] [--rows none mixup …]
    python benchmarks/augmentation.py poster FILMS --posters DIR [--films 600] [--seeds 2] [--rows none RandAugment …]

Each row is one recipe trained with several seeds on the same random films of the target source; the score is the best
macro average precision on `valid`. Augmentation should matter most in such small trainings; the default recipe may
differ.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmgcs.machine import cores
from mmgcs.training.branch import fit_branch
from mmgcs.training.labelled import Labelled, read_labelled
from mmgcs.training.recipe import Recipe
from mmgcs.training.rundir import Run


def text_variants(glove: Path) -> dict[str, dict[str, Any]]:
    neighbours = {"kind": "neighbours", "options": {"glove": str(glove), "share": 0.1}}
    return {
        "none": {},
        "word dropout 0.1": {"augment": [{"kind": "word_dropout", "options": {"share": 0.1}}]},
        "neighbours 0.1": {"augment": [neighbours]},
        "sentence shuffle 0.5": {"augment": [{"kind": "sentence_shuffle"}]},
        "all three": {"augment": [{"kind": "word_dropout"}, neighbours, {"kind": "sentence_shuffle"}]},
        "mixup 0.3": {"training": {"mixup": 0.3}},
    }


def poster_variants() -> dict[str, dict[str, Any]]:
    rand = [{"kind": "rand_augment", "options": {"changes": 2, "strength": 10}}]
    return {
        "none": {},
        "RandAugment 2 × 10": {"augment": rand, "views": 4},
        "mixup 0.3": {"training": {"mixup": 0.3}},
        "CutMix 1.0": {"training": {"cutmix": 1.0}},
        "RandAugment and mixup": {"augment": rand, "views": 4, "training": {"mixup": 0.3}},
    }


def few(data: Labelled, has: str, films: int) -> Labelled:
    train = np.intersect1d(data.rows("train", has), np.flatnonzero(data.source == 0))
    rows = np.sort(np.concatenate([np.random.default_rng(0).permutation(train)[:films], data.rows("valid", has)]))
    pick = {name: getattr(data, name)[rows] for name in ("truth", "known", "split", "source")}
    return replace(data, films=[data.films[row] for row in rows], **pick)


def measure(name: str, base: dict[str, Any], change: dict[str, Any], data: Labelled, seed: int, caches: Path) -> float:
    branch = {**base, **change, "training": {**base["training"], **change.get("training", {})}}
    recipe = Recipe.model_validate({"name": "ablation", "seed": seed, name: branch})
    with tempfile.TemporaryDirectory() as folder:
        run = Run(recipe, data, Path(folder), "", lambda line: None, progress=False, caches=caches)
        return fit_branch(run, name, recipe.branches[name], np.zeros(0, dtype=np.int64)).score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["text", "poster"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--posters", type=Path)
    parser.add_argument("--glove", type=Path)
    parser.add_argument("--films", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rows", nargs="+", help="only the rows whose names begin so")
    parser.add_argument("--threads", type=int, default=cores())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    common: dict[str, Any] = {"batch_size": 32, "patience": 99}
    if arguments.what == "text":
        name, films, variants = "plot", arguments.films or 2000, text_variants(arguments.glove)
        options = {"glove": str(arguments.glove), "hidden": 64, "max_tokens": 100}
        training = {**common, "epochs": arguments.epochs or 6, "lr": 2e-3, "head_lr": 2e-3}
        base = {"encoder": {"kind": "bilstm_attention", "options": options}, "training": training}
    else:
        name, films, variants = "poster", arguments.films or 600, poster_variants()
        options = {"variant": "lite0", "height": 192, "width_px": 128, "freeze_until": 6, "dropout": 0.4}
        training = {**common, "epochs": arguments.epochs or 6, "lr": 3e-4, "head_lr": 1e-3, "weight_decay": 0.05}
        base = {"encoder": {"kind": "efficientnet_lite", "options": options}, "training": training}
    data = few(read_labelled(arguments.data, arguments.posters, None, None), name, films)
    print(f"{films:,} films, {training['epochs']} epochs, {arguments.seeds} seeds\n")
    print(f"| {arguments.what} | macro AP on valid, each seed | mean | seconds |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as caches:
        for label, change in variants.items():
            if arguments.rows and not label.startswith(tuple(arguments.rows)):
                continue
            begun = time.perf_counter()
            found = [measure(name, base, change, data, seed, Path(caches)) for seed in range(arguments.seeds)]
            each = ", ".join(f"{score:.3f}" for score in found)
            taken = time.perf_counter() - begun
            print(f"| {label} | {each} | {statistics.mean(found):.3f} | {taken:.0f} |", flush=True)


if __name__ == "__main__":
    main()
