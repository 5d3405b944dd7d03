"""The model card: where a bundle comes from and what it was measured to do (Mitchell et al. 2019)."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

from mmgcs.bundle import CARD_JSON, CARD_TEXT
from mmgcs.evaluation import Report, evaluate, to_markdown
from mmgcs.files import atomic_writer, write_json
from mmgcs.film import Film
from mmgcs.runtime import CARD_KEY, Classifier, record_samples
from mmgcs.training.data import Labelled
from mmgcs.training.recipe import Recipe

LIBRARIES = ("torch", "pytorch-lightning", "transformers", "tokenizers", "onnx", "onnxruntime", "numpy", "pillow")


def make_card(
    recipe: Recipe, data: Labelled, command: str, run: Path, classifier: Classifier
) -> tuple[dict[str, Any], str]:
    """The card of a finished bundle, as data and as Markdown.

    Args:
        recipe, data, command: what the bundle was made from, and by.
        run: the run's folder, for what each branch's training found.
        classifier: the bundle, which is measured on `test` where the data has labelled films of it, else on `valid`.
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
    """The report with its curves as coarse as a chart of a few centimetres shows them: a bundle is no archive."""
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


def _render(card: dict[str, Any], report: Report) -> str:
    splits = card["data"]["splits"]
    lines = [
        f"# Model card: {card['name']}",
        "",
        f"Predicts {len(card['genres'])} genres: {', '.join(card['genres'])}.",
        "",
        "## Made by",
        "",
        f"    {card['command']}",
        "",
        f"Data with SHA-256 `{card['data']['sha256']}`; label sources: {', '.join(card['data']['sources'])} "
        "(the first is the one whose words the model speaks).",
        "",
        "| split | films | with plot | with poster |",
        "|---|---|---|---|",
        *(
            f"| {name} | {split['films']:,} | {split['with_plot']:,} | {split['with_poster']:,} |"
            for name, split in splits.items()
        ),
        "",
        "The training fits on train; every choice (checkpoints, calibration, thresholds, quantisation) is made on",
        "valid; test is only reported.",
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
        "For filling in and checking the genres of films from an English plot, a poster, or both. It has seen films",
        "as English-language databases describe them, and repeats their habits: plots in other languages, posters",
        "that are stills or packs, and genres that catalogues disagree on (Drama, Thriller) are where it errs most.",
        "Predictions marked “not sure” are for a person to look at. It says nothing about a film's worth.",
        "",
    ]
    return "\n".join(lines) + "\n" + to_markdown(report)
