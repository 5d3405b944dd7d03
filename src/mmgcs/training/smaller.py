"""Writing a finished bundle, as it is or made smaller, with decisions, detectors and a card that fit its graphs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from mmgcs.bundle import CARD_JSON, CARD_TEXT, CONFIG, MANIFEST, Bundle, BundleConfig, write_bundle
from mmgcs.errors import UsageError
from mmgcs.evaluation import Report, evaluate, fit_domain, to_markdown
from mmgcs.files import sha256
from mmgcs.film import Film
from mmgcs.runtime import CARD_KEY, Classifier, record_samples
from mmgcs.runtime.domain import DOMAIN, DOMAIN_FILE, Domain
from mmgcs.training.card import summarised, write_card
from mmgcs.training.compress import MEGABYTE, Compression, Outcome
from mmgcs.training.levels import Plan, Source, describe

COMPRESSION = "compression"
"""The card's key for what was done, and the table of size, speed and macro-F1."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a bundle's size, its speed and its scores on `valid`.

    Attributes:
        what: the plan, in words.
        megabytes: the whole bundle's.
        milliseconds: of a film with all inputs, by itself, the graphs alone; None where it was not measured.
        macro_f1: for each combination of inputs, with decisions fitted on the same films; None likewise.
        precision: mean average precision, the mean over the combinations of inputs.
    """

    what: str
    megabytes: float
    milliseconds: float | None
    macro_f1: Mapping[str, float] | None
    precision: float

    def to_json(self) -> dict[str, Any]:
        """The line as values that JSON can hold."""
        return {
            "what": self.what,
            "megabytes": round(self.megabytes, 2),
            "milliseconds": None if self.milliseconds is None else round(self.milliseconds, 2),
            "valid_macro_f1": None if self.macro_f1 is None else dict(self.macro_f1),
            "valid_mean_average_precision": self.precision,
        }


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export made.

    Attributes:
        bundle: the bundle.
        table: what it was, what it is, and the other ways that were tried; empty where nothing was changed.
    """

    bundle: Bundle
    table: tuple[Row, ...] = ()


def export(
    path: Path,
    out: Path,
    films: Sequence[Film] | None = None,
    *,
    int8: bool = False,
    size: float | None = None,
    command: str = "",
    log: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Write the bundle of a run, or another bundle, in int8 or under a size.

    Args:
        path: the folder of a run of `mmgcs train`, or of a bundle.
        out: the folder to make.
        films: labelled films; `train` and `valid` decide what is changed, `test` is reported. Not needed where
            nothing must be changed.
        int8: every branch in int8.
        size: the most megabytes (of a million bytes) that the bundle may have.
        command: the command, recorded in the card.
        log: told what is done, a line a step.

    Raises:
        UsageError: `path` is neither, `out` is not free, films are missing, or no bundle is small enough.
    """
    source = Source.open(path)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not empty; choose another --out or remove it")
    there = _bytes(source.bundle.path)
    if not int8 and (size is None or there <= size * MEGABYTE):
        log(f"the bundle has {there / MEGABYTE:.1f} MB; it is written as it is")
        return Exported(write_bundle(out, source.bundle.config, source.bundle.copy_to))
    if films is None:
        what = "--int8" if int8 else f"--max-size-mb {size:g}"
        raise UsageError(
            f"{what} changes graphs, so thresholds must be fitted again: give --data FILMS with a valid split"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        compression = Compression(source, films)
        done = make_smaller(compression, films, Path(folder), int8=int8, size=size, command=command, log=log)
        return Exported(write_bundle(out, done.bundle.config, done.bundle.copy_to), done.table)


def make_smaller(
    compression: Compression,
    films: Sequence[Film],
    folder: Path,
    *,
    int8: bool = False,
    size: float | None = None,
    command: str = "",
    log: Callable[[str], None] = lambda line: None,
) -> Exported:
    """What `export` does once a bundle and films are known, into an empty `folder`, which is left with workings."""
    if size is None:
        if compression.int8 == compression.as_it_is:
            log("every graph is in int8 already; the bundle is written as it is")
            return Exported(compression.source.bundle)
        return _write(compression, compression.int8, [], folder, None, command, films, log)
    limit = int(size * MEGABYTE)
    while True:
        log(f"looking for the best bundle of at most {size:g} MB on {len(compression.truth):,} films of split valid")
        tried = compression.search(limit, int8=int8)
        for outcome in tried:
            log(f"  {outcome.size / MEGABYTE:.1f} MB, mAP {outcome.precision:.4f}: {describe(outcome.plan)}")
        done = _write(compression, tried[0].plan, tried, folder / str(limit), size, command, films, log)
        over = _bytes(done.bundle.path) - int(size * MEGABYTE)
        if over <= 0:
            return done
        limit -= over  # the card came out longer than the one that it replaces


def _write(
    compression: Compression,
    plan: Plan,
    tried: Sequence[Outcome],
    folder: Path,
    size: float | None,
    command: str,
    films: Sequence[Film],
    log: Callable[[str], None],
) -> Exported:
    source = compression.source
    decisions, scores = compression.decide(plan)
    _, before = compression.decide(compression.as_it_is)
    old, new = compression.outcome(compression.as_it_is), compression.outcome(plan)
    config = replace(source.bundle.config, decisions=decisions, extra={})
    bare = _fill(compression, plan, config, folder / "bare", Domain(()), lambda target: None)
    domain = _domain(compression, plan, bare, log)
    extra = {key: value for key, value in source.bundle.config.extra.items() if key != DOMAIN}
    if domain.detectors:
        extra[DOMAIN] = domain.spec()
    config = replace(config, extra=extra)
    whole = _fill(compression, plan, config, folder / "whole", domain, lambda target: None)
    log("measuring it for its card")
    split = "test" if any(film.split == "test" and film.genres for film in films) else "valid"
    classifier = Classifier(whole)
    report = evaluate(classifier, [film for film in films if film.split == split], split=split)
    table = (
        Row(
            "as it was",
            _bytes(source.bundle.path) / MEGABYTE,
            compression.milliseconds(compression.as_it_is),
            before,
            old.precision,
        ),
        Row(describe(plan), new.size / MEGABYTE, compression.milliseconds(plan), scores, new.precision),
        *(Row(f"tried: {describe(one.plan)}", one.size / MEGABYTE, None, None, one.precision) for one in tried[1:]),
    )
    card: dict[str, Any] = {
        **source.bundle.card(),
        "command": command,
        COMPRESSION: {
            "made_from": {"name": source.bundle.config.name, "manifest": sha256(source.bundle.path / MANIFEST)},
            "plan": {kind: str(level) for kind, level in plan.items()},
            "max_size_mb": size,
            "table": [row.to_json() for row in table],
        },
        "evaluation": summarised(report),
        CARD_KEY: record_samples(classifier),
    }
    # Only now is it known how long the card is, which the table's own line of this bundle counts.
    length = _bytes(whole.path) + len(json.dumps(card, indent=2)) + len(_render(card, table, report))
    table = (table[0], replace(table[1], megabytes=length / MEGABYTE), *table[2:])
    card[COMPRESSION]["table"][1] = table[1].to_json()
    text = _render(card, table, report)
    bundle = _fill(compression, plan, config, folder / "done", domain, lambda to: write_card(to, card, text))
    return Exported(bundle, table)


def _fill(
    compression: Compression,
    plan: Plan,
    config: BundleConfig,
    path: Path,
    domain: Domain,
    finish: Callable[[Path], None],
) -> Bundle:
    source = compression.source.bundle
    graphs = {one.branch.graph: one for one in compression.graphs.values()}

    def fill(folder: Path) -> None:
        source.copy_to(folder, without={CONFIG, CARD_JSON, CARD_TEXT, DOMAIN_FILE, *graphs})
        for name, one in graphs.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            onnx.save(one.graph(plan[one.branch.kind]), str(folder / name))
        if domain.detectors:
            (folder / DOMAIN_FILE).write_bytes(domain.to_bytes())
        finish(folder)

    return write_bundle(path, config, fill)


def _domain(compression: Compression, plan: Plan, bare: Bundle, log: Callable[[str], None]) -> Domain:
    """The detectors: those of graphs that stay as they were, and new ones for those that changed."""
    old = Domain.of(compression.source.bundle)
    changed = {
        name
        for name, graphs in compression.graphs.items()
        if plan[graphs.branch.kind] != compression.as_it_is[graphs.branch.kind]
    }
    if not any(one.branch in changed for one in old.detectors):
        return old
    log("learning again what is unlike films")
    new = fit_domain(Classifier(bare), compression.films, branches=changed, log=log)
    return Domain([*(one for one in old.detectors if one.branch not in changed), *new.detectors])


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _render(card: Mapping[str, Any], table: Sequence[Row], report: Report) -> str:
    origin = card[COMPRESSION]["made_from"]
    lines = [
        f"# Model card: {report.model['name']}",
        "",
        f"Predicts {len(report.model['genres'])} genres: {', '.join(report.model['genres'])}.",
        "",
        "## Made smaller",
        "",
        f"From the bundle `{origin['name']}` (its manifest's SHA-256: `{origin['manifest']}`), by",
        "",
        f"    {card['command']}",
        "",
        f"Chosen on valid: {table[1].what}. Calibration, thresholds and detectors were fitted again.",
        "",
        *table_lines(table),
        "",
        "Macro-F1 and mAP (the mean over combinations of inputs) are of valid, where thresholds were fitted too; ms of",
        "one film with all inputs, on the machine that made this. card.json says what the first bundle was made from.",
        "",
    ]
    return "\n".join(lines) + "\n" + to_markdown(report)


def table_lines(table: Sequence[Row]) -> list[str]:
    """The table of size, speed and scores, in Markdown."""
    inputs = list(next((row.macro_f1 for row in table if row.macro_f1), {}))
    names = ["bundle", "MB", "ms a film", *(f"macro-F1, {name}" for name in inputs), "mAP"]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for row in table:
        scores = [f"{row.macro_f1[name]:.3f}" if row.macro_f1 else "" for name in inputs]
        speed = "" if row.milliseconds is None else f"{row.milliseconds:.1f}"
        lines.append(
            "| " + " | ".join([row.what, f"{row.megabytes:.1f}", speed, *scores, f"{row.precision:.4f}"]) + " |"
        )
    return lines
