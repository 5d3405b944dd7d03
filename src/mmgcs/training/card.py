"""The model card: where a bundle comes from and how good it is (Mitchell et al. 2019)."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgcs.bundle import CARD_JSON, CARD_TEXT
from mmgcs.evaluation import Report, evaluate, to_markdown
from mmgcs.files import atomic_writer, write_json
from mmgcs.film import Film
from mmgcs.preprocess import LANGUAGES
from mmgcs.runtime import CARD_KEY, Classifier, record_samples
from mmgcs.training.data import Labelled
from mmgcs.training.recipe import Recipe
from mmgcs.wording import MAIN_METRICS

LIBRARIES = ("torch", "pytorch-lightning", "transformers", "tokenizers", "onnx", "onnxruntime", "numpy", "pillow")


def make_card(
    recipe: Recipe, data: Labelled, command: str, run: Path, classifier: Classifier
) -> tuple[dict[str, Any], str]:
    """Return the card of a finished bundle, as data and as Markdown.

    Args:
        recipe, data, command: what the bundle was made from, and how.
        run: the run's folder, for the results of each branch's training.
        classifier: the bundle. It is measured on `test` if the data has films of it, otherwise on `valid`.
    """
    counts = {
        split: {
            "films": len(data.rows(split)),
            **{f"with_{name}": len(data.rows(split, name)) for name in ("plot", "poster")},
        }
        for split in ("train", "valid", "test")
    }
    branches = {}
    for branch in classifier.bundle.config.branches:
        found = json.loads((run / branch.name / "branch.json").read_text(encoding="utf-8"))
        branches[branch.name] = {
            key: found[key] for key in ("encoder", "graph", "valid_map", "quantization") if key in found
        }
    split = "test" if len(data.rows("test")) else "valid"
    report = evaluate(
        classifier,
        _films(data, split),
        train=_films(data, "train"),
        valid=_films(data, "valid"),
        split=split,
        sources=recipe.sources(),
    )
    card: dict[str, Any] = {
        "name": recipe.name,
        "command": command,
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
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
    return card, _render(card, report)


def write_card(folder: Path, card: dict[str, Any], text: str) -> None:
    """Write card.json and CARD.md into a bundle's folder."""
    write_json(folder / CARD_JSON, card)
    with atomic_writer(folder / CARD_TEXT) as handle:
        handle.write(text)


def _films(data: Labelled, split: str) -> list[Film]:
    return [data.films[row] for row in data.rows(split)]


def summarised(report: Report) -> dict[str, Any]:
    """Return the report with coarse curves, enough for a small chart: they would make up most of a bundle's card."""
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


def _held_out(card: Mapping[str, Any]) -> list[str]:
    evaluation = card["evaluation"]
    lines = [
        f"## Scores on {evaluation['split']}",
        "",
        f"| films | number | {' | '.join(MAIN_METRICS.values())} |",
        f"|---|---|{'---|' * len(MAIN_METRICS)}",
    ]
    for condition in evaluation["conditions"]:
        values = [condition["tuned"][metric]["value"] for metric in MAIN_METRICS]
        shown = " | ".join("–" if value is None else f"{value:.3f}" for value in values)
        lines.append(f"| {condition['name']} | {condition['tuned']['films']:,} | {shown} |")
    return [*lines, ""]


def _render(card: dict[str, Any], report: Report) -> str:
    splits = card["data"]["splits"]
    lines = [
        f"# Model card: {card['name']}",
        "",
        f"Predicts {len(card['genres'])} genres: {', '.join(card['genres'])}. Reads plots in "
        f"{', '.join(card['languages'])}.",
        "",
        *_held_out(card),
        "## Made by",
        "",
        f"    {card['command']}",
        "",
        f"Data with SHA-256 `{card['data']['sha256']}`; label sources: {', '.join(card['data']['sources'])} "
        "(the model predicts as the first of them labels).",
        "",
        "| split | films | with plot | with poster |",
        "|---|---|---|---|",
        *(
            f"| {name} | {split['films']:,} | {split['with_plot']:,} | {split['with_poster']:,} |"
            for name, split in splits.items()
        ),
        "",
        "Trained on train; every choice (checkpoints, calibration, thresholds, quantization) is made on valid; test is",
        "only reported.",
        "",
        "## Parts",
        "",
    ]
    for name, branch in card["branches"].items():
        line = f"- {name}: `{branch['encoder']}`, {branch['graph'].removesuffix('.onnx')} graph"
        if "quantization" in branch:
            cost = branch["quantization"]["cost_points_macro_f1"]
            line += f"; int8 costs {cost:+.2f} points of macro-F1 on valid"
        lines.append(line + ".")
    lines += ["", "Versions: " + ", ".join(f"{name} {version}" for name, version in card["versions"].items()) + ".", ""]
    lines += [
        "## Use and limits",
        "",
        "For filling in and checking the genres of films from a plot, a poster, or both. It learned from films as",
        "databases describe them and repeats their habits. It errs most on plots in languages that it has not learned,",
        "on posters that are stills or packs, and on genres that catalogues disagree about (Drama, Thriller).",
        "Predictions marked “not sure” need a review. It says nothing about a film's quality.",
        "",
    ]
    return "\n".join(lines) + "\n" + to_markdown(report)
