"""The loss: unknown labels never pull a probability down, soft targets have their share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmgcs.labels import LabelSource
from mmgcs.models import SourceHead, TokenEncoder
from mmgcs.training.losses import LOSSES
from mmgcs.training.module import BranchModule, FusionModule
from mmgcs.training.recipe import Optimization, Recipe
from mmgcs.training.run import read

FILMS, GENRES, WIDTH = 6, 3, 4


class Given(TokenEncoder):
    """An encoder whose features are the batch's hidden values."""

    width = WIDTH

    def tail(self, hidden, inputs):
        return hidden


def batch(known: torch.Tensor) -> dict:
    torch.manual_seed(1)
    return {
        "hidden": torch.randn(FILMS, WIDTH),
        "inputs": {},
        "truth": (torch.rand(FILMS, GENRES) < 0.5).float() * known,
        "known": known,
        "weight": torch.ones(FILMS),
        "source": torch.zeros(FILMS, dtype=torch.int64),
    }


def quiet(module):
    module.log = lambda *args, **kwargs: None
    return module


def branch(loss: str = "bce", share: float = 0.0, **training) -> BranchModule:
    loss_module = LOSSES[loss](torch.full((GENRES,), 0.5))
    return quiet(BranchModule(Given(), SourceHead(WIDTH, GENRES, 1, 0), Optimization(**training), loss_module, share))


def logits_gradient(loss: str, known: torch.Tensor, **training) -> torch.Tensor:
    """The gradient of a training step's loss by the logits of the films (FILMS, GENRES)."""
    module = branch(loss, **training)
    seen = []

    def keep(_, __, logits):
        logits.retain_grad()
        seen.append(logits)

    module.head.register_forward_hook(keep)
    module.training_step(batch(known), 0).backward()
    return seen[0].grad


def cost(soft: torch.Tensor | None, share: float) -> float:
    torch.manual_seed(0)
    module = branch(share=share)
    torch.nn.init.normal_(module.head.common.weight)
    films = batch(torch.ones(FILMS, GENRES))
    return float(module.training_step(films if soft is None else {**films, "soft": soft}, 0).detach())


def test_soft_targets_have_their_share_of_the_loss():
    zeros = torch.zeros(FILMS, GENRES)
    labels, opposite, mixed = cost(None, 0.0), cost(zeros, 0.999), cost(zeros, 0.25)
    only = (opposite - 0.001 * labels) / 0.999
    assert mixed == pytest.approx(0.75 * labels + 0.25 * only, rel=1e-4)


@pytest.mark.parametrize("loss", ["bce", "asymmetric"])
def test_unknown_labels_have_no_gradient_and_known_ones_do(loss):
    known = torch.ones(FILMS, GENRES)
    known[0], known[2, 1] = 0.0, 0.0
    gradient = logits_gradient(loss, known)
    assert (gradient[known == 0] == 0).all()
    assert (gradient[known == 1] != 0).any(0).all()


def test_mixing_films_adds_no_gradient_for_labels_that_are_unknown_in_both():
    known = torch.ones(FILMS, GENRES)
    known[0, 0] = known[FILMS - 1, 0] = 0.0  # these two are mixed with each other
    gradient = logits_gradient("bce", known, mixup=0.3)
    assert gradient[0, 0] == gradient[FILMS - 1, 0] == 0
    # Mixed with a film that has the genre, a film for which it is unknown is not a half no.
    known = torch.ones(FILMS, GENRES)
    known[0] = 0.0
    data = batch(known)
    data["truth"][FILMS - 1] = 1.0
    assert torch.allclose(branch(mixup=0.3)._mix(data["hidden"], data, 0)[1]["truth"][0], torch.ones(GENRES))


def test_the_fusion_skips_unknown_labels():
    class Sum(torch.nn.Module):
        def forward(self, features, present):
            return sum(features)

    module = quiet(FusionModule(Sum(), Optimization(), LOSSES["bce"](torch.full((GENRES,), 0.5)), 0.0))
    features = torch.zeros(FILMS, GENRES, requires_grad=True)
    known = torch.ones(FILMS, GENRES)
    known[1] = 0.0
    present, truth = torch.ones(FILMS, 1), torch.zeros(FILMS, GENRES)
    module.training_step([features, present, truth, known], 0).backward()
    assert (features.grad[1] == 0).all() and (features.grad[0] > 0).all()


def read_table(path, header, rows, **settings):
    """What a recipe with these settings makes of a table, and what it says."""
    path.write_text("\n".join([header, *rows]), encoding="utf-8")
    plot = {"encoder": {"kind": "transformer"}}
    lines: list[str] = []
    data = read(Recipe(name="r", genres="data", plot=plot, **settings), path, None, lines.append)
    return data, lines


def test_a_label_source_without_a_description_is_announced_once(tmp_path):
    films = [("Drama", "train"), ("Comedy", "train"), ("Drama", "valid"), ("Comedy", "valid")]
    rows = [f"{row},a plot,{genre},{split},mine" for row, (genre, split) in enumerate(films)]
    table = tmp_path / "films.csv", "id,plot,genres,split,labels", rows
    assert read_table(*table)[1] == [
        "label source 'mine' has no description, so a missing genre counts as a no; "
        "describe it under label_sources in the recipe"
    ]
    data, lines = read_table(*table, label_sources={"mine": LabelSource(unnamed=("Drama",))})
    assert lines == []
    assert np.array_equal(data.known[:, data.genres.index("Drama")], [True, False, True, False])


def test_rows_that_cannot_be_read_are_counted(tmp_path):
    rows = [f"{row},a plot,Drama|Comedy,{split}" for row, split in enumerate(["train", "valid"])]
    rows.append("2,a plot,Drama,train,one,field,too,many")
    data, lines = read_table(tmp_path / "films.csv", "id,plot,genres,split", rows)
    assert len(data.films) == 2
    assert len(lines) == 1 and lines[0].startswith("rows that cannot be read and are left out: 1; the first: ")
