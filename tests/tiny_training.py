"""Recipes so small that a training takes seconds, and `mmgcs train` as a process; shared by several folders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mmgcs.sample import sample_table

if TYPE_CHECKING:
    from mmgcs.bundle import Bundle
    from mmgcs.training import Recipe

PLOT: dict[str, Any] = {
    "encoder": {
        "kind": "bilstm_attention",
        "options": {"tune": True, "dimension": 8, "hidden": 8, "max_tokens": 24, "vocabulary": 300},
    },
    "training": {"epochs": 2, "batch_size": 8, "lr": 0.01, "head_lr": 0.01, "patience": 100},
    "int8": False,
}
POSTER: dict[str, Any] = {
    "encoder": {"kind": "resnet18", "options": {"weights": "none", "height": 32, "width_px": 24, "hidden": 8}},
    "training": {"epochs": 1, "batch_size": 8, "patience": 100},
    "int8": False,
}


def write_recipe(path: Path, **parts: Any) -> Path:
    """Write a recipe of the given branches and settings."""
    path.write_text(yaml.safe_dump({"name": "tiny", "checkpoint_steps": 1, **parts}), encoding="utf-8")
    return path


def train_on_sample(recipe: Recipe | Path, out: Path, **options: Any) -> Bundle:
    """Train `recipe` on the sample, in this process and quietly."""
    from mmgcs.training import train

    options = {"posters": sample_table().parent, "log": lambda line: None, "progress": False, **options}
    return train(recipe, sample_table(), out, **options)


def train_command(recipe: Path, out: Path, *more: str, data: Path | None = None) -> list[str]:
    """The command that trains `recipe` on the sample, or on `data`."""
    table = data or sample_table()
    command = [sys.executable, "-m", "mmgcs", "train", str(recipe), "--data", str(table), "--out", str(out), "--quiet"]
    return [*command, "--posters", str(sample_table().parent), *more]


def run_command(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with its output as text."""
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **options)


def errors(stderr: str) -> list[str]:
    """The lines of stderr from the first that is an error on: one, where the error is one clear line."""
    lines = stderr.splitlines()
    first = next((index for index, line in enumerate(lines) if "rror" in line or "Traceback" in line), len(lines))
    return lines[first:]
