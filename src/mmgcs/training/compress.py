"""Make a finished bundle smaller: convert it to int8, or use the first of a ladder of settings that fits a size.

The graphs change, so calibration and thresholds are fitted again. Tokenizer, fusion and labels stay the same.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mmgcs.bundle import CARD_JSON, CARD_TEXT, CONFIG, MANIFEST, Branch, Bundle, Decision, bundle_folder, write_bundle
from mmgcs.errors import UsageError
from mmgcs.evaluation import evaluate, fit_decision, macro_average_precision
from mmgcs.export import (
    has_words,
    is_int8,
    prune_vocabulary,
    quantize_blocks,
    quantize_dynamic,
    quantize_static,
    to_float,
)
from mmgcs.files import sha256
from mmgcs.film import Film
from mmgcs.labels import LABEL_SOURCES, LabelSource, label_sources, read_labels
from mmgcs.preprocess import PREPROCESSORS, Prepared
from mmgcs.runtime import CARD_KEY, Classifier, record_samples, without, write_carded_bundle
from mmgcs.training.assemble import macro_f1
from mmgcs.training.branch import CALIBRATION_FILMS
from mmgcs.training.card import card_text, summarised
from mmgcs.training.recipe import Recipe
from mmgcs.training.rundir import Log

MEGABYTE = 1_000_000

Graphs = dict[str, onnx.ModelProto]
"""A graph for each branch."""
LADDER = ((8, 1.0), (8, 0.5), (8, 0.25), (4, 0.5), (4, 0.25), (4, 0.1), (4, 0.05))
"""From best to smallest: bits of matrix weights (8 for word tables and posters in any case), share of words to keep."""


def export_bundle(
    path: Path,
    out: Path,
    films: Sequence[Film] | None = None,
    *,
    int8: bool = False,
    size: float | None = None,
    command: str = "",
    log: Log = lambda line: None,
) -> tuple[Bundle, list[dict[str, Any]]]:
    """Write a run's bundle, or another bundle, in int8 or under a size limit.

    Args:
        path: the folder of a run of `mmgcs train`, or of a bundle; "default" for the bundle in the package.
        out: the folder to make.
        films: labelled films. Decisions are fitted on `valid`, words are counted in `train`, `test` is reported. None
            if nothing has to be changed.
        int8: convert every branch to int8.
        size: the largest size of the bundle, in megabytes (a million bytes).
        command: the command, recorded in the card.
        log: called with one line per step.

    Returns:
        The new bundle, and a table that compares it with the old one, a row for each: what it is, its size and speed
        (`milliseconds` for one film with all inputs, the graphs alone), and its scores on `valid`. The table is empty
        if nothing was changed.

    Raises:
        UsageError: `path` has no bundle, `out` is not empty, films are missing, or no setting is small enough.
    """
    source = open_source(path)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not empty; choose another --out or remove it")
    before = sum(file.stat().st_size for file in source.path.rglob("*") if file.is_file())
    models = {branch.name: onnx.load_from_string(source.read(branch.graph)) for branch in source.config.branches}
    if (size is None or before <= size * MEGABYTE) and (not int8 or all(map(is_int8, models.values()))):
        log(f"the bundle takes {before / MEGABYTE:.1f} MB and is copied unchanged")
        return write_bundle(out, source.config, source.copy_to), []
    if films is None:
        what = "--int8" if int8 else f"--max-size-mb {size:g}"
        raise UsageError(
            f"{what} changes graphs, so thresholds must be fitted again: give --data FILMS with a valid split"
        )
    films = [film for film in films if film.genres]
    out.parent.mkdir(parents=True, exist_ok=True)
    recipe, sources = source.card().get("recipe") or {}, label_sources(source.card())
    coverage = float(recipe.get("coverage", Recipe.model_fields["coverage"].default))
    _, was = measure_bundle(Classifier(source), films, coverage, sources)
    (bits, words), graphs = _first_that_fits(source, path, models, films, size, before, log)

    def fill(folder: Path) -> None:
        replaced = {branch.graph for branch in source.config.branches}
        source.copy_to(folder, without={CONFIG, CARD_JSON, CARD_TEXT, *replaced})
        for branch in source.config.branches:
            (folder / branch.graph).parent.mkdir(parents=True, exist_ok=True)
            onnx.save(graphs[branch.name], str(folder / branch.graph))

    log("fitting decisions again")
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        trial = write_bundle(Path(temporary) / "trial", source.config, fill)
        decisions, now = measure_bundle(Classifier(trial), films, coverage, sources)
    table = [
        {"what": "before", "megabytes": round(before / MEGABYTE, 2), **was},
        {"what": _named(bits, words), "megabytes": 0.0, **now},
    ]

    def describe(classifier: Classifier) -> tuple[dict[str, Any], str]:
        split = "test" if any(film.split == "test" for film in films) else "valid"
        scored = [film for film in films if film.split == split]
        report = evaluate(classifier, scored, split=split, sources=sources)
        plan = {b.kind: "int8" if b.kind == "pixels" else _named(bits, words) for b in source.config.branches}
        card: dict[str, Any] = {
            "name": source.config.name,
            "genres": list(source.config.genres),
            **source.card(),
            "command": command,
            "compression": {
                "made_from": {"name": source.config.name, "manifest": sha256(source.path / MANIFEST)},
                "plan": plan,
                "max_size_mb": size,
                "table": table,
            },
            "evaluation": summarised(report),
            CARD_KEY: record_samples(classifier),
        }
        length = sum(entry["bytes"] for entry in classifier.bundle.files.values())
        length += len(json.dumps(card, indent=2, ensure_ascii=False).encode()) + len(card_text(card, report).encode())
        table[1]["megabytes"] = round(length / MEGABYTE, 2)
        return card, card_text(card, report)

    log("measuring the bundle for its card")
    return write_carded_bundle(out, replace(source.config, decisions=decisions), fill, describe), table


def open_source(path: Path) -> Bundle:
    """Open a bundle, given by its folder, the folder of a finished run, or "default".

    Raises:
        UsageError: the folder is neither, or the run is not finished.
    """
    path = bundle_folder(path)
    if not (path / "run.json").is_file():
        return Bundle(path)
    if not (path / "bundle" / MANIFEST).is_file():
        raise UsageError(f"the run in {path} is not finished; resume it: mmgcs train … --out {path} --resume")
    return Bundle(path / "bundle")


def _named(bits: int, words: float) -> str:
    return f"int{bits}" + (f", {words:.0%} of the words" if words < 1 else "")


def _first_that_fits(
    source: Bundle, path: Path, models: Graphs, films: Sequence[Film], size: float | None, before: int, log: Log
) -> tuple[tuple[int, float], Graphs]:
    """Return the first setting of `LADDER` that fits into `size` megabytes, and its graphs; the first if it is None."""
    train = {branch.name: _training_inputs(source, branch, films) for branch in source.config.branches}
    made: dict[tuple[str, int], onnx.ModelProto] = {
        (name, 8): model for name, model in models.items() if is_int8(model)
    }
    # Everything but the graphs; the card and the configuration may grow by 24,000 bytes.
    other = before + 24_000 - sum(source.files[branch.graph]["bytes"] for branch in source.config.branches)
    smallest = float("inf")
    for bits, words in LADDER:
        graphs: Graphs = {}
        for branch in source.config.branches:
            name, own = branch.name, 8 if branch.kind == "pixels" else bits
            if (name, own) not in made:
                kept = path / name / "float.onnx"  # a run keeps its float graphs next to its bundle
                exact = onnx.load(str(kept)) if kept.is_file() else models[name]
                made[name, own] = _quantize(source, branch, exact, own, train[name])
            graphs[name] = made[name, own]
            if words < 1 and has_words(graphs[name]):
                graphs[name] = _prune(graphs[name], words, train[name])
        there = other + sum(graph.ByteSize() for graph in graphs.values())
        log(f"{_named(bits, words)}: {there / MEGABYTE:.2f} MB")
        if size is None or there <= size * MEGABYTE:
            return (bits, words), graphs
        smallest = min(smallest, there)
    raise UsageError(
        f"{source.path} cannot be made smaller than {np.ceil(smallest / 10_000) / 100:.2f} MB, the smallest "
        "size it can reach; give --max-size-mb that much or more, or train a smaller model"
    )


def _training_inputs(source: Bundle, branch: Branch, films: Sequence[Film]) -> list[Prepared]:
    """Return a branch's prepared training inputs in random order; only some of the posters."""
    having = [film for film in films if film.split == "train" and getattr(film, branch.input)]
    chosen = np.random.default_rng(0).permutation(len(having))
    other = "poster" if branch.input == "plot" else "plot"
    most = CALIBRATION_FILMS if branch.kind == "pixels" else None
    ready = Classifier(source).prepare([without(having[row], other) for row in chosen[:most]])
    column = source.config.branches.index(branch)
    return [part for film in ready if film.parts and (part := film.parts[column]) is not None]


def _quantize(
    source: Bundle, branch: Branch, exact: onnx.ModelProto, bits: int, train: Sequence[Prepared]
) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "float.onnx", Path(folder) / "small.onnx"
        onnx.save(to_float(exact) if is_int8(exact) else exact, str(before))
        preprocessor = PREPROCESSORS[branch.kind](branch.options, source.read)
        batches = (preprocessor.collate([part]) for part in train[:CALIBRATION_FILMS])
        if branch.kind == "pixels":
            if not train:
                raise UsageError("int8 for posters needs posters to measure ranges on; give --posters")
            quantize_static(before, after, batches)
        elif bits == 4:
            quantize_blocks(before, after)
        else:
            quantize_dynamic(before, after, batches)
        return onnx.load(str(after))


def _prune(graph: onnx.ModelProto, words: float, train: Sequence[Prepared]) -> onnx.ModelProto:
    if not train:
        raise UsageError("no film of split train has a plot; the words to keep are counted in those")
    counts = np.bincount(np.concatenate([plot.value for plot in train])).astype(np.int64)
    # The tokens that begin, end and pad plots.
    always = {int(token) for plot in train[:8] for token in (plot.value[0], plot.value[-1])} | {0, 1}
    return prune_vocabulary(graph, counts, words, sorted(always))


def measure_bundle(
    classifier: Classifier,
    films: Sequence[Film],
    coverage: float = 0.8,
    sources: Mapping[str, LabelSource] = LABEL_SOURCES,
) -> tuple[dict[str, Decision], dict[str, Any]]:
    """Fit decisions for a bundle on the films of split `valid` and measure it there.

    Returns:
        The decisions, and the bundle's scores with them and its `milliseconds` for one film.

    Raises:
        UsageError: a decision cannot be fitted because no film of `valid` has its inputs.
    """
    config = classifier.bundle.config
    valid = [film for film in films if film.split == "valid"]
    features = classifier.features(valid)
    truth, known = read_labels(valid, config.genres, sources)
    decisions, scores, precisions = {}, {}, []
    for condition in config.decisions:
        names = condition.split("+")
        having = features.having(config.branches, names)
        if not having.any():
            raise UsageError(f"no film of split valid has a {' and '.join(names)}; decisions are fitted on such films")
        logits = classifier.logits(features.only(config.branches, names, having))
        decisions[condition] = fit_decision(logits, truth[having], coverage, known=known[having])
        scores[condition] = macro_f1(logits, truth[having], decisions[condition])
        precisions.append(macro_average_precision(truth[having], logits, known[having]))
    complete = np.flatnonzero(features.having(config.branches, config.inputs))
    taken = []
    for film in classifier.prepare([valid[row] for row in complete[:48]] or valid[:48]):
        begun = time.perf_counter()
        classifier.features_of([film], check=False)
        taken.append(1000.0 * (time.perf_counter() - begun))
    return decisions, {
        "milliseconds": round(float(np.median(taken)), 2),
        "valid_macro_f1": scores,
        "valid_mean_average_precision": float(np.mean(precisions)),
    }
