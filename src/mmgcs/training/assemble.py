"""Put finished branches and a fusion together into a bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from mmgcs.bundle import Branch, BundleConfig, Decision, input_combinations, write_bundle
from mmgcs.evaluation import fit_decision, macro_average_precision
from mmgcs.export import export_fusion
from mmgcs.models import FUSIONS
from mmgcs.preprocess import ENGLISH
from mmgcs.runtime import Classifier, sigmoid
from mmgcs.training.rundir import Run


@dataclass(frozen=True)
class FinishedBranch:
    """A branch that is ready for a bundle."""

    spec: Branch  # its description in the bundle
    graph: Path  # the file of its graph
    head: tuple[Tensor, Tensor]  # its head's weight (genres, width) and bias (genres,)


def assemble(
    run: Run,
    branches: Sequence[FinishedBranch],
    fusion: nn.Module | None = None,
    decisions: Mapping[str, Decision] | None = None,
    extra: Mapping[str, Any] | None = None,
    languages: tuple[str, ...] = (ENGLISH,),
) -> tuple[BundleConfig, Callable[[Path], None]]:
    """Return the arguments of `write_bundle`: the configuration, and a function that writes the files into a folder.

    Without a fusion, the branches' logits are averaged; without decisions, each genre's threshold is 0.5.
    """
    specs = [branch.spec for branch in branches]
    module = FUSIONS["linear"]([branch.head for branch in branches]) if fusion is None else fusion
    genres = run.data.genres
    if decisions is None:
        ones, zeros = (1.0,) * len(genres), (0.0,) * len(genres)
        neutral = Decision(ones, zeros, (0.5,) * len(genres), 0.0)
        decisions = dict.fromkeys(input_combinations([spec.input for spec in specs]), neutral)

    def fill(folder: Path) -> None:
        for branch in branches:
            shutil.copyfile(branch.graph, folder / branch.spec.graph)
            for asset in (run.folder / branch.spec.name / "assets").iterdir():
                shutil.copyfile(asset, folder / asset.name)
        export_fusion(module, [spec.name for spec in specs], [spec.width for spec in specs], folder / "fusion.onnx")

    return BundleConfig(run.recipe.name, genres, tuple(specs), "fusion.onnx", decisions, extra or {}, languages), fill


def score_branch(run: Run, branch: FinishedBranch, valid: NDArray[np.int64]) -> dict[str, float]:
    """Fit a decision for a finished branch on the films `valid`, and return its scores on them."""
    folder = run.folder / branch.spec.name / "try"
    classifier = Classifier(write_bundle(folder, *assemble(run, [branch]), replace=True))
    logits = classifier.logits(classifier.features([run.data.films[row] for row in valid]))
    shutil.rmtree(folder)
    truth, known = run.data.truth[valid], run.data.known[valid]
    return {
        "macro_f1": macro_f1(logits, truth, fit_decision(logits, truth, known=known)),
        "map": macro_average_precision(truth, logits, known),
    }


def macro_f1(logits: NDArray[np.float32], truth: NDArray[np.bool_], decision: Decision) -> float:
    """Return the macro-F1 of a decision rule."""
    from sklearn.metrics import f1_score

    chosen = sigmoid(logits * np.array(decision.slope) + np.array(decision.intercept)) >= np.array(decision.thresholds)
    return float(f1_score(truth, chosen, average="macro", zero_division=0))
