"""The model card: where a bundle comes from and how good it is (Mitchell et al. 2019)."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmgcs.evaluation import Report, evaluate, to_markdown
from mmgcs.preprocess import LANGUAGES
from mmgcs.runtime import CARD_KEY, Classifier, record_samples
from mmgcs.templates import fill_template
from mmgcs.training.rundir import Run
from mmgcs.wording import MAIN_METRICS

LIBRARIES = ("torch", "pytorch-lightning", "transformers", "tokenizers", "onnx", "onnxruntime", "numpy", "pillow")
"""The libraries whose versions a card records."""


def make_card(run: Run, classifier: Classifier) -> tuple[dict[str, Any], Report]:
    """Return the card of a finished bundle, and its report on `test`, or on `valid` if `test` is empty."""
    data = run.data
    films = {split: [data.films[row] for row in data.rows(split)] for split in ("train", "valid", "test")}
    counts = {
        split: {
            "films": len(films[split]),
            **{f"with_{name}": len(data.rows(split, name)) for name in ("plot", "poster")},
        }
        for split in films
    }
    branches = {}
    for branch in classifier.bundle.config.branches:
        found = json.loads((run.folder / branch.name / "branch.json").read_text(encoding="utf-8"))
        shown = ("encoder", "graph", "valid_map", "quantization")
        branches[branch.name] = {key: found[key] for key in shown if key in found}
    split = "test" if films["test"] else "valid"
    train, valid, sources = films["train"], films["valid"], run.recipe.sources()
    report = evaluate(classifier, films[split], train=train, valid=valid, split=split, sources=sources)
    card: dict[str, Any] = {
        "name": run.recipe.name,
        "command": run.command,
        "recipe": run.recipe.model_dump(mode="json", exclude_none=True),
        "data": {"sha256": data.fingerprint, "splits": counts, "sources": list(data.sources)},
        "genres": list(data.genres),
        "languages": [LANGUAGES[code] for code in classifier.bundle.config.languages],
        "branches": branches,
        "evaluation": summarised(report),
        CARD_KEY: record_samples(classifier),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in LIBRARIES},
        },
    }
    return card, report


def card_text(card: Mapping[str, Any], report: Report) -> str:
    """Return a card as Markdown, with the full report."""
    template, filters = Path(__file__).parent / "templates" / "card.md.j2", {"table": table_lines}
    return fill_template(template, filters, card=card, metrics=MAIN_METRICS, report=to_markdown(report))


def table_lines(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return an export's table of size, speed and scores, in Markdown."""
    names = ["bundle", "MB", "ms per film", *(f"macro-F1, {name}" for name in table[0]["valid_macro_f1"]), "mAP"]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for row in table:
        scores = [f"{value:.3f}" for value in row["valid_macro_f1"].values()]
        shown = [f"{row['megabytes']:.1f}", f"{row['milliseconds']:.1f}", *scores]
        lines.append("| " + " | ".join([row["what"], *shown, f"{row['valid_mean_average_precision']:.4f}"]) + " |")
    return lines


def summarised(report: Report) -> dict[str, Any]:
    """Return the report with coarser curves; the full ones would make up most of a bundle's card."""
    value = report.to_json()
    for condition in value["conditions"]:
        curves = condition["curves"]
        condition["curves"] = {
            # The precision where recall reaches 5%, 10%, … 100%.
            "precision": {genre: points[4::5] for genre, points in curves["precision"].items()},
            "reliability": {
                genre: [[round(part["predicted"], 4), round(part["observed"], 4), part["films"]] for part in parts]
                for genre, parts in curves["reliability"].items()
            },
        }
        if condition["baseline"] is not None:
            del condition["baseline"]["precision"]
    return value


def scores_line(card: Mapping[str, Any]) -> str:
    """Return a card's held-out scores in one line."""
    evaluation = card["evaluation"]
    parts = []
    for condition in evaluation["conditions"]:
        values = ((name, condition["tuned"][metric]["value"]) for metric, name in MAIN_METRICS.items())
        scores = ", ".join(f"{name} {value:.3f}" for name, value in values if value is not None)
        parts.append(f"{condition['name']} ({condition['tuned']['films']:,} films) {scores}")
    return f"on {evaluation['split']}: {'; '.join(parts)}"
