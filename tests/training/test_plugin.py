"""An encoder from another package: `__init__` and `forward` in one file, found by its entry point."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_training import errors, run_command, train_command, write_recipe

from mmgcs.runtime import load

ENCODER = """
import torch
from torch import Tensor, nn

from mmgcs.models import TokenEncoder


class MeanOfWords(TokenEncoder):
    def __init__(self, width: int = 64, vocabulary: int = 5000) -> None:
        super().__init__(vocabulary=vocabulary, max_tokens=50)
        self.width = width
        self.words = nn.Embedding(vocabulary, width)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mask = attention_mask.unsqueeze(-1).float()  # (B, T, 1)
        return (self.words(input_ids) * mask).sum(1) / mask.sum(1)
"""
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "mmgcs-mean-of-words"
version = "1.0"
[project.entry-points."mmgcs.encoders"]
mean_of_words = "mean_of_words:MeanOfWords"
broken = "mean_of_words:Missing"
[tool.hatch.build.targets.wheel]
only-include = ["mean_of_words.py"]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip installed the plugin."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    (source / "mean_of_words.py").write_text(ENCODER, encoding="utf-8")
    (source / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*pip, str(target), str(source)], check=True, capture_output=True)
    return target


def test_an_encoder_of_an_installed_package_trains_to_a_bundle_that_needs_no_plugin(installed, tmp_path):
    training = {"epochs": 0.1, "batch_size": 8, "lr": 0.01}  # less than one batch, so one
    plot = {"encoder": {"kind": "mean_of_words", "options": {"width": 8, "vocabulary": 200}}, "training": training}
    recipe = write_recipe(tmp_path / "r.yaml", plot={**plot, "int8": False})
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = run_command(train_command(recipe, tmp_path / "run"), env=environment)
    assert done.returncode == 0, done.stderr
    assert "the plugin 'broken' of mmgcs.encoders could not be loaded" in done.stderr  # which does not stop the others
    classifier = load(tmp_path / "run" / "bundle")
    assert classifier.bundle.config.branches[0].encoder == "mean_of_words"
    assert classifier.predict(plot="A ghost haunts a village at night.").error is None


def test_without_the_package_the_encoder_is_unknown(tmp_path):
    recipe = write_recipe(tmp_path / "r.yaml", plot={"encoder": {"kind": "mean_of_words"}})
    done = run_command(train_command(recipe, tmp_path / "run"))
    assert done.returncode == 2
    assert "there is no encoder 'mean_of_words'; known: bilstm_attention" in errors(done.stderr)[0]
