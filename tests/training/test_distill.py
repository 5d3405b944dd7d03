"""Soft targets: a model that learns from another model's answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_training import PLOT, errors, run_command, train_command, write_recipe

from mmgcs.models import SourceHead
from mmgcs.training.losses import make_loss
from mmgcs.training.module import BranchModule
from mmgcs.training.recipe import Optimization


class Same(torch.nn.Module):
    """An encoder whose features are its inputs."""

    input, kind, width = "plot", "tokens", 3

    def tail(self, hidden, inputs):
        return hidden


def cost(soft: torch.Tensor | None, share: float) -> float:
    torch.manual_seed(0)
    head = SourceHead(3, 2, 1, 0)
    torch.nn.init.normal_(head.common.weight)
    learner = BranchModule(Same(), head, Optimization(), make_loss("bce", {}, torch.full((2,), 0.5)), share)
    learner.log = lambda *args, **kwargs: None
    batch = {
        "hidden": torch.randn(4, 3), "inputs": {}, "truth": torch.ones(4, 2), "weight": torch.ones(4),
        "source": torch.zeros(4, dtype=torch.int64), "known": torch.ones(4, 2),
    }  # fmt: skip
    if soft is not None:
        batch["soft"] = soft
    return float(learner.training_step(batch, 0).detach())


def test_soft_targets_have_their_share_of_the_loss():
    labels, opposite = cost(None, 0.0), cost(torch.zeros(4, 2), 0.999)
    mixed = cost(torch.zeros(4, 2), 0.25)
    only = (opposite - 0.001 * labels) / 0.999
    assert mixed == pytest.approx(0.75 * labels + 0.25 * only, rel=1e-4)


def test_a_student_learns_from_a_finished_bundle(tmp_path, one_thread):
    recipe = write_recipe(tmp_path / "student.yaml", plot={**PLOT, "distill": {"teacher": "default", "share": 0.9}})
    done = run_command(train_command(recipe, tmp_path / "run", "--json"))
    assert done.returncode == 0, done.stderr
    said = np.load(tmp_path / "run" / "plot" / "teacher.npy")
    film = next(row for row in range(len(said)) if np.isfinite(said[row]).all())
    assert (said[film] > 0).all() and (said[film] < 1).all()


def test_a_teacher_that_does_not_know_the_genres_is_refused(tmp_path, one_thread):
    recipe = write_recipe(tmp_path / "student.yaml", genres=["Drama", "Kaiju"], plot=PLOT)
    table = tmp_path / "films.csv"
    films = [
        f"{index},Story number {index} of a town.,{('Drama', 'Kaiju')[index % 2]},{'valid' if index > 15 else 'train'}"
        for index in range(24)
    ]
    table.write_text("\n".join(["id,plot,genres,split", *films]), encoding="utf-8")
    done = run_command(train_command(recipe, tmp_path / "run", "--set", "plot.distill.teacher=default", data=table))
    assert done.returncode == 2
    (line,) = errors(done.stderr)
    assert "distill.teacher: default does not know Kaiju; give another teacher" in line
