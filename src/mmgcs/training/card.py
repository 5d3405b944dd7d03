"""The model card: where a bundle comes from and what it was measured to do (Mitchell et al. 2019)."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

from mmgcs.bundle import CARD_JSON, CARD_TEXT, Branch
from mmgcs.files import atomic_writer, write_json
from mmgcs.training.data import Labelled
from mmgcs.training.recipe import Recipe

LIBRARIES = ("torch", "pytorch-lightning", "transformers", "tokenizers", "onnx", "onnxruntime", "numpy", "pillow")


def write_card(folder: Path, recipe: Recipe, data: Labelled, command: str, specs: list[Branch], run: Path) -> None:
    """Write card.json and CARD.md into a bundle's folder. Metrics are added by the evaluation."""
    counts = {
        split: {
            "films": int((data.split == split).sum()),
            **{f"with {name}": len(data.rows(split, name)) for name in ("plot", "poster")},
        }
        for split in ("train", "valid", "test")
    }
    branches = {}
    for spec in specs:
        info = json.loads((run / spec.name / "branch.json").read_text(encoding="utf-8"))
        branches[spec.name] = {
            key: info[key] for key in ("encoder", "graph", "valid_map", "quantization") if key in info
        }
    card: dict[str, Any] = {
        "name": recipe.name,
        "command": command,
        "recipe": recipe.model_dump(mode="json"),
        "data": {"sha256": data.fingerprint, "splits": counts, "sources": list(data.sources)},
        "genres": list(data.genres),
        "branches": branches,
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in LIBRARIES},
        },
    }
    write_json(folder / CARD_JSON, card)
    with atomic_writer(folder / CARD_TEXT) as handle:
        handle.write(render_card(card))


def render_card(card: dict[str, Any]) -> str:
    """The card as Markdown."""
    lines = [f"# {card['name']}", "", f"Made by `{card['command']}`.", ""]
    return "\n".join(lines) + "\n"
