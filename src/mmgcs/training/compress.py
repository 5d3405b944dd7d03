"""Make a finished bundle smaller: int8, or the first of a ladder of settings that is under a size.

The graphs change, so calibration and thresholds are fitted again. Tokenizer, fusion and labels stay.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mmgcs.bundle import CARD_JSON, CARD_TEXT, CONFIG, MANIFEST, Branch, Bundle, BundleConfig, Decision, write_bundle
from mmgcs.errors import UsageError
from mmgcs.evaluation import Report, evaluate, fit_decision, to_markdown
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
from mmgcs.labels import read_labels
from mmgcs.preprocess import PREPROCESSORS, Prepared
from mmgcs.runtime import CARD_KEY, Classifier, record_samples, without
from mmgcs.training.assemble import macro_f1
from mmgcs.training.branch import CALIBRATION_POSTERS
from mmgcs.training.card import summarised, write_card
from mmgcs.training.module import macro_average_precision
from mmgcs.training.recipe import Recipe

MEGABYTE = 1_000_000
COMPRESSION = "compression"
"""The card's key for what was done, with a table of size, speed and macro-F1."""
ROOM = 24_000
"""Bytes by which the card and the configuration may grow."""
TIMED = 48
"""Films whose time is measured."""

Log = Callable[[str], None]
Graphs = dict[str, onnx.ModelProto]
"""A graph for each branch."""
LADDER = ((8, 1.0), (8, 0.5), (8, 0.25), (4, 0.5), (4, 0.25), (4, 0.1), (4, 0.05))
"""From the best to the smallest: bits of the weights of matrix products (tables of words and posters' graphs always
have 8), and the share of words that are kept."""


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
    """Write the bundle of a run, or another bundle, in int8 or under a size.

    Args:
        path: the folder of a run of `mmgcs train`, or of a bundle.
        out: the folder to make.
        films: labelled films. Decisions are fitted on `valid`, words are counted in `train`, `test` is reported. Not
            needed if nothing has to be changed.
        int8: convert every branch to int8.
        size: the most megabytes (of a million bytes) that the bundle may have.
        command: the command, recorded in the card.
        log: called with one line per step.

    Returns:
        the new bundle, and a table of two rows, for the bundle before and now: what it is, its size and speed
        (`milliseconds` for one film with all inputs, the graphs alone), and its scores on `valid`. The table is empty
        if nothing was changed.

    Raises:
        UsageError: `path` is neither, `out` is not empty, films are missing, or no setting is small enough.
    """
    source, floats = open_source(path)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not empty; choose another --out or remove it")
    before = sum(file.stat().st_size for file in source.path.rglob("*") if file.is_file())
    models = {branch.name: onnx.load_from_string(source.read(branch.graph)) for branch in source.config.branches}
    too_large = size is not None and before > size * MEGABYTE
    if not too_large and not (int8 and not all(is_int8(model) for model in models.values())):
        log(f"the bundle has {before / MEGABYTE:.1f} MB; it is written as it is")
        return write_bundle(out, source.config, source.copy_to), []
    if films is None:
        what = "--int8" if int8 else f"--max-size-mb {size:g}"
        raise UsageError(
            f"{what} changes graphs, so thresholds must be fitted again: give --data FILMS with a valid split"
        )
    films = [film for film in films if film.genres]
    out.parent.mkdir(parents=True, exist_ok=True)
    _, was = measure(Classifier(source), films)
    setting, graphs = _climb_down(source, models, floats, films, size, before, log)
    log("fitting decisions again")
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        bare = _write(Path(folder) / "bare", source, source.config, graphs)
        decisions, now = measure(Classifier(bare), films)
        config = replace(source.config, decisions=decisions)
        whole = Classifier(_write(Path(folder) / "whole", source, config, graphs))
        log("measuring the bundle for its card")
        split = "test" if any(film.split == "test" for film in films) else "valid"
        report = evaluate(whole, [film for film in films if film.split == split], split=split)
        kinds = {branch.kind: _named((8, 1.0) if branch.kind == "pixels" else setting) for branch in config.branches}
        table = [
            {"what": "as it was", "megabytes": round(before / MEGABYTE, 2), **was},
            {"what": _named(setting), "megabytes": 0.0, **now},
        ]
        card: dict[str, Any] = {
            **source.card(),
            "command": command,
            COMPRESSION: {
                "made_from": {"name": source.config.name, "manifest": sha256(source.path / MANIFEST)},
                "plan": kinds,
                "max_size_mb": size,
                "table": table,
            },
            "evaluation": summarised(report),
            CARD_KEY: record_samples(whole),
        }
        length = sum(entry["bytes"] for entry in whole.bundle.files.values())
        length += len(json.dumps(card, indent=2, ensure_ascii=False).encode()) + len(_render(card, report).encode())
        table[1]["megabytes"] = round(length / MEGABYTE, 2)
        text = _render(card, report)
    return _write(out, source, config, graphs, partial(write_card, card=card, text=text)), table


def open_source(path: Path) -> tuple[Bundle, dict[str, Path]]:
    """Open the folder of a run or a bundle.

    Returns:
        the bundle, and the float graphs that a run keeps next to it, by branch.

    Raises:
        UsageError: it is neither, or the run is not finished.
    """
    if (path / MANIFEST).is_file():
        return Bundle(path), {}
    if not (path / "run.json").is_file():
        raise UsageError(f"{path} is neither a run of mmgcs train nor a bundle; give the folder of one")
    if not (path / "bundle" / MANIFEST).is_file():
        raise UsageError(f"the run in {path} is not finished; resume it: mmgcs train … --out {path} --resume")
    bundle = Bundle(path / "bundle")
    floats = {branch.name: path / branch.name / "float.onnx" for branch in bundle.config.branches}
    return bundle, {name: file for name, file in floats.items() if file.is_file()}


def _named(setting: tuple[int, float]) -> str:
    bits, words = setting
    return f"int{bits}" + (f", {words:.0%} of the words" if words < 1 else "")


def _climb_down(
    source: Bundle,
    models: Graphs,
    floats: Mapping[str, Path],
    films: Sequence[Film],
    size: float | None,
    before: int,
    log: Log,
) -> tuple[tuple[int, float], Graphs]:
    """Return the first setting of the ladder under `size` megabytes (the first of all without one), and its graphs."""
    train = {branch.name: _train(source, branch, films) for branch in source.config.branches}
    quantized = {8: {name: model for name, model in models.items() if is_int8(model)}, 4: dict[str, onnx.ModelProto]()}
    other = before - sum(source.files[branch.graph]["bytes"] for branch in source.config.branches)
    smallest = float("inf")
    for bits, words in LADDER:
        graphs: Graphs = {}
        for branch in source.config.branches:
            name, own = branch.name, 8 if branch.kind == "pixels" else bits
            if name not in quantized[own]:
                exact = onnx.load(str(floats[name])) if name in floats else models[name]
                exact = to_float(exact) if is_int8(exact) else exact
                quantized[own][name] = _quantize(source, branch, exact, own, train[name])
            graphs[name] = quantized[own][name]
            if words < 1 and has_words(graphs[name]):
                graphs[name] = _prune(graphs[name], words, train[name])
        there = other + sum(graph.ByteSize() for graph in graphs.values()) + ROOM
        log(f"{_named((bits, words))}: {there / MEGABYTE:.2f} MB")
        if size is None or there <= size * MEGABYTE:
            return (bits, words), graphs
        smallest = min(smallest, there)
    raise UsageError(
        f"{source.path} cannot be made smaller than {np.ceil(smallest / 10_000) / 100:.2f} MB, the smallest "
        "size it can reach; give --max-size-mb that much or more, or train a smaller model"
    )


def _train(source: Bundle, branch: Branch, films: Sequence[Film]) -> list[Prepared]:
    """Return what a branch reads of films of split train, in random order; of posters only some."""
    having = [film for film in films if film.split == "train" and getattr(film, branch.input)]
    chosen = np.random.default_rng(0).permutation(len(having))
    other = "poster" if branch.input == "plot" else "plot"
    most = CALIBRATION_POSTERS if branch.kind == "pixels" else None
    ready = Classifier(source).prepare([without(having[row], other) for row in chosen[:most]])
    column = source.config.branches.index(branch)
    return [part for film in ready if film.parts and (part := film.parts[column]) is not None]


def _quantize(
    source: Bundle, branch: Branch, exact: onnx.ModelProto, bits: int, train: Sequence[Prepared]
) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "float.onnx", Path(folder) / "small.onnx"
        onnx.save(exact, str(before))
        if branch.kind == "pixels":
            if not train:
                raise UsageError("int8 for posters needs posters to measure ranges on; give --posters")
            preprocessor = PREPROCESSORS[branch.kind](branch.options, source.read)
            quantize_static(before, after, (preprocessor.collate([poster]) for poster in train))
        elif bits == 4:
            quantize_blocks(before, after)
        else:
            quantize_dynamic(before, after)
        return onnx.load(str(after))


def _prune(graph: onnx.ModelProto, words: float, train: Sequence[Prepared]) -> onnx.ModelProto:
    if not train:
        raise UsageError("no film of split train has a plot; the words to keep are counted in those")
    counts = np.bincount(np.concatenate([plot.value for plot in train])).astype(np.int64)
    # The tokens that begin, end and fill every plot.
    always = {int(token) for plot in train[:8] for token in (plot.value[0], plot.value[-1])} | {0, 1}
    return prune_vocabulary(graph, counts, words, sorted(always))


def measure(classifier: Classifier, films: Sequence[Film]) -> tuple[dict[str, Decision], dict[str, Any]]:
    """Fit decisions for a bundle on the films of split `valid` and measure it there.

    Returns:
        the decisions, and the bundle's `milliseconds` for one film and scores with them.

    Raises:
        UsageError: no film of `valid` has the inputs of one of the bundle's decisions.
    """
    config = classifier.bundle.config
    valid = [film for film in films if film.split == "valid"]
    prepared = classifier.prepare(valid)
    features = classifier.features_of(prepared, check=False)
    truth, known = read_labels(valid, config.genres)
    recipe = classifier.bundle.card().get("recipe") or {}
    coverage = float(recipe.get("coverage", Recipe.model_fields["coverage"].default))
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
    timed = [film for film in prepared if film.parts and all(part is not None for part in film.parts)][:TIMED]
    taken = []
    for film in timed or prepared[:TIMED]:
        begun = time.perf_counter()
        classifier.features_of([film], check=False)
        taken.append(1000.0 * (time.perf_counter() - begun))
    return decisions, {
        "milliseconds": round(float(np.median(taken)), 2),
        "valid_macro_f1": scores,
        "valid_mean_average_precision": float(np.mean(precisions)),
    }


def _write(
    path: Path,
    source: Bundle,
    config: BundleConfig,
    graphs: Graphs,
    finish: Callable[[Path], None] = lambda folder: None,
) -> Bundle:
    def fill(folder: Path) -> None:
        replaced = {branch.graph for branch in config.branches}
        source.copy_to(folder, without={CONFIG, CARD_JSON, CARD_TEXT, *replaced})
        for branch in config.branches:
            (folder / branch.graph).parent.mkdir(parents=True, exist_ok=True)
            onnx.save(graphs[branch.name], str(folder / branch.graph))
        finish(folder)

    return write_bundle(path, config, fill)


def _render(card: Mapping[str, Any], report: Report) -> str:
    done, origin = card[COMPRESSION], card[COMPRESSION]["made_from"]
    lines = [
        f"# Model card: {report.model['name']}",
        "",
        f"Predicts {len(report.model['genres'])} genres: {', '.join(report.model['genres'])}.",
        "",
        "## Made smaller",
        "",
        f"From the bundle `{origin['name']}` (SHA-256 of its manifest: `{origin['manifest']}`), by",
        "",
        f"    {card['command']}",
        "",
        f"Setting: {done['table'][1]['what']}. Calibration and thresholds were fitted again.",
        "",
        *table_lines(done["table"]),
        "",
        "Macro-F1 and mAP (the mean over combinations of inputs) are on valid, where thresholds were fitted too; ms of",
        "one film with all inputs, on the machine that made this. card.json says how the first bundle was made.",
        "",
    ]
    return "\n".join(lines) + "\n" + to_markdown(report)


def table_lines(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of size, speed and scores, in Markdown."""
    names = ["bundle", "MB", "ms per film", *(f"macro-F1, {name}" for name in table[0]["valid_macro_f1"]), "mAP"]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for row in table:
        scores = [f"{value:.3f}" for value in row["valid_macro_f1"].values()]
        shown = [f"{row['megabytes']:.1f}", f"{row['milliseconds']:.1f}", *scores]
        lines.append("| " + " | ".join([row["what"], *shown, f"{row['valid_mean_average_precision']:.4f}"]) + " |")
    return lines
