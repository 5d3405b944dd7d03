"""Make a finished bundle smaller: int8, or the first of a ladder of settings that is under a size.

The graphs change, so calibration, thresholds and the detectors of strange inputs are fitted again. Tokenizer, fusion
and labels stay.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from mmgcs.bundle import CARD_JSON, CARD_TEXT, CONFIG, MANIFEST, Branch, Bundle, Decision, write_bundle
from mmgcs.errors import UsageError
from mmgcs.evaluation import Report, average_precision, evaluate, fit_decision, fit_domain, to_markdown
from mmgcs.export import (
    is_int8,
    prune_vocabulary,
    quantize_blocks,
    quantize_dynamic,
    quantize_static,
    to_float,
    word_tables,
)
from mmgcs.files import sha256
from mmgcs.film import Film
from mmgcs.labels import read_labels
from mmgcs.preprocess import PREPROCESSORS, Prepared
from mmgcs.runtime import CARD_KEY, DOMAIN, DOMAIN_FILE, Classifier, Domain, record_samples, without
from mmgcs.training.assemble import macro_f1
from mmgcs.training.branch import CALIBRATION_POSTERS
from mmgcs.training.card import summarised, write_card

MEGABYTE = 1_000_000
COMPRESSION = "compression"
"""The card's key for what was done, with a table of size, speed and macro-F1."""
ROOM = 24_000
"""Bytes by which the card and the configuration may grow."""
TIMED = 48
"""Films whose time is measured."""

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Setting:
    """One rung of the ladder.

    Attributes:
        bits: of the weights of matrix products: 8, or 4 (tables of words and posters' graphs keep 8).
        words: the share of rows that tables of words keep.
    """

    bits: int = 8
    words: float = 1.0

    def __str__(self) -> str:
        return f"int{self.bits}" + (f", {self.words:.0%} of the words" if self.words < 1 else "")


LADDER = (
    Setting(),
    Setting(words=0.5),
    Setting(words=0.25),
    Setting(4, words=0.5),
    Setting(4, words=0.25),
    Setting(4, words=0.1),
    Setting(4, words=0.05),
)
"""From the best to the smallest."""


@dataclass(frozen=True, slots=True)
class SizeRow:
    """One line of the table: a bundle's size, its speed and its scores on `valid`.

    Attributes:
        what: the setting.
        megabytes: of the whole bundle.
        milliseconds: for one film with all inputs, the graphs alone.
        macro_f1: for each combination of inputs, with decisions fitted on the same films.
        precision: mean average precision, the mean over the combinations of inputs.
    """

    what: str
    megabytes: float
    milliseconds: float
    macro_f1: Mapping[str, float]
    precision: float

    def to_json(self) -> dict[str, Any]:
        """Return the line as JSON values."""
        return {
            "what": self.what,
            "megabytes": round(self.megabytes, 2),
            "milliseconds": round(self.milliseconds, 2),
            "valid_macro_f1": dict(self.macro_f1),
            "valid_mean_average_precision": self.precision,
        }


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export.

    Attributes:
        bundle: the bundle.
        table: the bundle before and after; empty if nothing was changed.
    """

    bundle: Bundle
    table: tuple[SizeRow, ...] = ()


def export_bundle(
    path: Path,
    out: Path,
    films: Sequence[Film] | None = None,
    *,
    int8: bool = False,
    size: float | None = None,
    command: str = "",
    log: Log = lambda line: None,
) -> Exported:
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

    Raises:
        UsageError: `path` is neither, `out` is not empty, films are missing, or no setting is small enough.
    """
    source, floats = open_source(path)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not empty; choose another --out or remove it")
    before = _bytes(source.path)
    models = {branch.name: onnx.load_from_string(source.read(branch.graph)) for branch in source.config.branches}
    too_large = size is not None and before > size * MEGABYTE
    if not too_large and not (int8 and not all(is_int8(model) for model in models.values())):
        log(f"the bundle has {before / MEGABYTE:.1f} MB; it is written as it is")
        return Exported(write_bundle(out, source.config, source.copy_to))
    if films is None:
        what = "--int8" if int8 else f"--max-size-mb {size:g}"
        raise UsageError(
            f"{what} changes graphs, so thresholds must be fitted again: give --data FILMS with a valid split"
        )
    films = [film for film in films if film.genres]
    classifier = Classifier(source)
    was = measure(classifier, films)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        shrunk = Shrunk(source, floats, models, films)
        setting = LADDER[0] if size is None else _first_that_fits(shrunk, before, size, log)
        result = _write(shrunk, setting, was, Path(folder), size, command, log)
        return Exported(write_bundle(out, result.bundle.config, result.bundle.copy_to), result.table)


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


class Shrunk:
    """The graphs of a bundle at any setting.

    Args:
        source: the bundle.
        floats: float graphs by branch, if the run has them.
        models: the bundle's graphs by branch.
        films: labelled films; those of split `train` are used.
    """

    def __init__(
        self,
        source: Bundle,
        floats: Mapping[str, Path],
        models: Mapping[str, onnx.ModelProto],
        films: Sequence[Film],
    ) -> None:
        self.source = source
        self.films = films
        self.models = models
        self._floats = floats
        self._made: dict[tuple[str, Setting], onnx.ModelProto] = {}
        self._prepared: dict[str, list[Prepared]] = {}

    def graph(self, branch: Branch, setting: Setting) -> onnx.ModelProto:
        """Return a branch's graph at a setting."""
        if branch.kind == "pixels":
            setting = Setting()
        key = branch.name, setting
        if key not in self._made:
            if setting.words < 1:
                self._made[key] = self._pruned(branch, setting)
            else:
                self._made[key] = self._quantized(branch, setting.bits)
        return self._made[key]

    def _quantized(self, branch: Branch, bits: int) -> onnx.ModelProto:
        model = self.models[branch.name]
        if bits == 8 and is_int8(model):
            return model
        with tempfile.TemporaryDirectory() as folder:
            before, after = Path(folder) / "float.onnx", Path(folder) / "small.onnx"
            exact = onnx.load(str(self._floats[branch.name])) if branch.name in self._floats else model
            onnx.save(to_float(exact) if is_int8(exact) else exact, str(before))
            if branch.kind == "pixels":
                preprocessor = PREPROCESSORS[branch.kind](branch.options, self.source.read)
                posters = self._train(branch, CALIBRATION_POSTERS)
                if not posters:
                    raise UsageError("int8 for posters needs posters to measure ranges on; give --posters")
                quantize_static(before, after, (preprocessor.collate([poster]) for poster in posters))
            elif bits == 4:
                quantize_blocks(before, after)
            else:
                quantize_dynamic(before, after)
            return onnx.load(str(after))

    def _pruned(self, branch: Branch, setting: Setting) -> onnx.ModelProto:
        model = self.graph(branch, replace(setting, words=1.0))
        if not word_tables(model):
            return model
        plots = self._train(branch)
        if not plots:
            raise UsageError("no film of split train has a plot; the words to keep are counted in those")
        counts = np.bincount(np.concatenate([plot.value for plot in plots])).astype(np.int64)
        # The tokens that begin, end and fill every plot.
        always = {int(token) for plot in plots[:8] for token in (plot.value[0], plot.value[-1])} | {0, 1}
        return prune_vocabulary(model, counts, setting.words, sorted(always))

    def _train(self, branch: Branch, most: int | None = None) -> list[Prepared]:
        """Return what the branch reads of films of split train, at most `most` of them, drawn at random."""
        if branch.name not in self._prepared:
            films = [film for film in self.films if film.split == "train" and getattr(film, branch.input)]
            chosen = np.random.default_rng(0).permutation(len(films))[:most]
            column = self.source.config.branches.index(branch)
            other = "poster" if branch.input == "plot" else "plot"
            ready = Classifier(self.source).prepare([without(films[row], other) for row in chosen])
            self._prepared[branch.name] = [
                part for film in ready if film.parts and (part := film.parts[column]) is not None
            ]
        return self._prepared[branch.name]

    def size(self, setting: Setting) -> int:
        """Return the bytes of all graphs at a setting."""
        return sum(self.graph(branch, setting).ByteSize() for branch in self.source.config.branches)


def _first_that_fits(shrunk: Shrunk, before: int, size: float, log: Log) -> Setting:
    """Return the first setting of the ladder under `size` megabytes, or raise UsageError."""
    graphs = sum(shrunk.source.files[branch.graph]["bytes"] for branch in shrunk.source.config.branches)
    smallest = float("inf")
    for setting in LADDER:
        there = before - graphs + shrunk.size(setting) + ROOM
        log(f"{setting}: {there / MEGABYTE:.2f} MB")
        if there <= size * MEGABYTE:
            return setting
        smallest = min(smallest, there)
    raise UsageError(
        f"{shrunk.source.path} cannot be made smaller than {np.ceil(smallest / 10_000) / 100:.2f} MB, the smallest "
        "size it can reach; give --max-size-mb that much or more, or train a smaller model"
    )


@dataclass(frozen=True)
class ValidScores:
    """A bundle on the films of `valid`: decisions fitted for it, and its scores and speed with them."""

    decisions: dict[str, Decision]
    macro_f1: dict[str, float]
    precision: float
    milliseconds: float


def measure(classifier: Classifier, films: Sequence[Film]) -> ValidScores:
    """Fit decisions for a bundle on the films of split `valid` and measure it there.

    Raises:
        UsageError: no film of `valid` has the inputs of one of the bundle's decisions.
    """
    config = classifier.bundle.config
    valid = [film for film in films if film.split == "valid"]
    prepared = classifier.prepare(valid)
    features = classifier.features_of(prepared, check=False)
    truth, known = read_labels(valid, config.genres)
    coverage = (classifier.bundle.card().get("recipe") or {}).get("coverage")
    fit = partial(fit_decision, coverage=float(coverage)) if coverage else fit_decision
    decisions, scores, precisions = {}, {}, []
    for condition in config.decisions:
        names = condition.split("+")
        having = features.having(config.branches, names)
        if not having.any():
            raise UsageError(f"no film of split valid has a {' and '.join(names)}; decisions are fitted on such films")
        logits = classifier.logits(features.only(config.branches, names, having))
        decisions[condition] = fit(logits, truth[having])
        scores[condition] = macro_f1(logits, truth[having], decisions[condition])
        precisions.append(_mean_precision(logits, truth[having], known[having]))
    timed = [film for film in prepared if film.parts and all(part is not None for part in film.parts)][:TIMED]
    taken = []
    for film in timed or prepared[:TIMED]:
        begun = time.perf_counter()
        classifier.features_of([film], check=False)
        taken.append(1000.0 * (time.perf_counter() - begun))
    return ValidScores(decisions, scores, float(np.mean(precisions)), float(np.median(taken)))


def _mean_precision(logits: NDArray[np.float32], truth: NDArray[np.bool_], known: NDArray[np.bool_]) -> float:
    each = [
        average_precision(truth[rows, genre, None], logits[rows, genre, None])[0]
        for genre, rows in enumerate(known.T)
        if truth[rows, genre].any()
    ]
    return float(np.mean(each))


def _write(
    shrunk: Shrunk, setting: Setting, was: ValidScores, folder: Path, size: float | None, command: str, log: Log
) -> Exported:
    source, films = shrunk.source, shrunk.films
    log("fitting decisions and detectors again")
    config = replace(source.config, extra={key: value for key, value in source.config.extra.items() if key != DOMAIN})
    bare = _fill(shrunk, setting, config, folder / "bare")
    now = measure(Classifier(bare), films)
    domain = _domain(shrunk, setting, bare, log)
    extra = {**config.extra, **({DOMAIN: domain.spec()} if domain.detectors else {})}
    config = replace(config, decisions=now.decisions, extra=extra)
    whole = _fill(shrunk, setting, config, folder / "whole", domain)
    log("measuring the bundle for its card")
    split = "test" if any(film.split == "test" for film in films) else "valid"
    classifier = Classifier(whole)
    report = evaluate(classifier, [film for film in films if film.split == split], split=split)
    rows = (
        SizeRow("as it was", _bytes(source.path) / MEGABYTE, was.milliseconds, was.macro_f1, was.precision),
        SizeRow(str(setting), _bytes(whole.path) / MEGABYTE, now.milliseconds, now.macro_f1, now.precision),
    )
    kinds = dict.fromkeys(branch.kind for branch in source.config.branches)
    card: dict[str, Any] = {
        **source.card(),
        "command": command,
        COMPRESSION: {
            "made_from": {"name": source.config.name, "manifest": sha256(source.path / MANIFEST)},
            "plan": {kind: str(Setting() if kind == "pixels" else setting) for kind in kinds},
            "max_size_mb": size,
            "table": [row.to_json() for row in rows],
        },
        "evaluation": summarised(report),
        CARD_KEY: record_samples(classifier),
    }
    # The card's own length counts too.
    length = len(json.dumps(card, indent=2, ensure_ascii=False).encode()) + len(_render(card, rows, report).encode())
    rows = (rows[0], replace(rows[1], megabytes=rows[1].megabytes + length / MEGABYTE))
    card[COMPRESSION]["table"][1] = rows[1].to_json()
    text = _render(card, rows, report)
    bundle = _fill(shrunk, setting, config, folder / "done", domain, lambda to: write_card(to, card, text))
    return Exported(bundle, rows)


def _fill(
    shrunk: Shrunk,
    setting: Setting,
    config: Any,
    path: Path,
    domain: Domain | None = None,
    finish: Callable[[Path], None] = lambda folder: None,
) -> Bundle:
    source = shrunk.source

    def fill(folder: Path) -> None:
        graphs = {branch.graph for branch in source.config.branches}
        source.copy_to(folder, without={CONFIG, CARD_JSON, CARD_TEXT, DOMAIN_FILE, *graphs})
        for branch in source.config.branches:
            (folder / branch.graph).parent.mkdir(parents=True, exist_ok=True)
            onnx.save(shrunk.graph(branch, setting), str(folder / branch.graph))
        if domain is not None and domain.detectors:
            (folder / DOMAIN_FILE).write_bytes(domain.to_bytes())
        finish(folder)

    return write_bundle(path, config, fill)


def _domain(shrunk: Shrunk, setting: Setting, bare: Bundle, log: Log) -> Domain:
    """Return the detectors: new ones for graphs that changed, if the bundle had any."""
    old = Domain.of(shrunk.source)
    changed = {
        branch.name
        for branch in shrunk.source.config.branches
        if shrunk.graph(branch, setting) is not shrunk.models[branch.name]
    }
    if not any(detector.branch in changed for detector in old.detectors):
        return old
    films = [film for film in shrunk.films if film.split in ("train", "valid")]
    new = fit_domain(Classifier(bare), films, branches=changed, log=log)
    return Domain([*(one for one in old.detectors if one.branch not in changed), *new.detectors])


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _render(card: Mapping[str, Any], rows: Sequence[SizeRow], report: Report) -> str:
    origin = card[COMPRESSION]["made_from"]
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
        f"Setting: {rows[1].what}. Calibration, thresholds and detectors were fitted again.",
        "",
        *table_lines(rows),
        "",
        "Macro-F1 and mAP (the mean over combinations of inputs) are on valid, where thresholds were fitted too; ms of",
        "one film with all inputs, on the machine that made this. card.json says how the first bundle was made.",
        "",
    ]
    return "\n".join(lines) + "\n" + to_markdown(report)


def table_lines(rows: Sequence[SizeRow]) -> list[str]:
    """Return the table of size, speed and scores, in Markdown."""
    names = ["bundle", "MB", "ms per film", *(f"macro-F1, {name}" for name in rows[0].macro_f1), "mAP"]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for row in rows:
        scores = [f"{value:.3f}" for value in row.macro_f1.values()]
        cells = [row.what, f"{row.megabytes:.1f}", f"{row.milliseconds:.1f}", *scores, f"{row.precision:.4f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
