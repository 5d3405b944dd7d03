"""Fused inputs are never worse than one of them, on the films that everything is chosen on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmgcs.models import FUSIONS
from mmgcs.runtime import Features
from mmgcs.sample import sample_table
from mmgcs.training.fusion import FusionFilms, choose_holdout, choose_seen, choose_shares, fused_with
from mmgcs.training.labelled import read_labelled
from mmgcs.training.module import input_masks, macro_average_precision
from mmgcs.training.recipe import read_recipe

FILMS, GENRES = 400, 4


@pytest.fixture
def made():
    """Plot features that tell the genres, poster features that are noise, and the heads that know it or do not."""
    random = np.random.default_rng(5)
    truth = random.random((FILMS, GENRES)) < 0.3
    plot = (truth + random.normal(0.0, 0.6, truth.shape)).astype(np.float32)
    poster = random.normal(0.0, 1.0, truth.shape).astype(np.float32)
    present = np.ones((FILMS, 2), dtype=np.float32)
    present[:80, 0] = 0.0
    present[80:200, 1] = 0.0
    values = {"plot": plot * present[:, :1], "poster": poster * present[:, 1:]}
    features = Features(values, present, [()] * FILMS, [""] * FILMS)
    heads = [(4.0 * torch.eye(GENRES), torch.zeros(GENRES)) for _ in range(2)]
    return FUSIONS["gated"](heads).eval(), heads, features, truth


def scores(fusion, features: Features, truth) -> dict[str, float]:
    """Macro average precision with the plot alone, the poster alone, and both, of the films that have both."""
    films = FusionFilms(features, truth, np.ones_like(truth))
    found = {}
    for name, mask in zip(("plot", "poster", "both"), input_masks(2), strict=True):
        logits, true, _ = fused_with(fusion, films, torch.ones(2), mask)
        found[name] = macro_average_precision(true, logits)
    return found


def test_a_poster_that_says_nothing_does_not_spoil_the_plot(made):
    fusion, heads, features, truth = made
    torch.manual_seed(0)
    torch.nn.init.normal_(fusion.out.weight, std=3.0)  # a correction that learned nonsense
    before = scores(fusion, features, truth)
    assert before["both"] < before["plot"] < 1.0
    assert choose_shares(fusion, fusion.share, FusionFilms(features, truth, np.ones_like(truth))) == 0
    after = scores(fusion, features, truth)
    plain = scores(FUSIONS["gated"](heads).eval(), features, truth)
    assert after["both"] >= max(plain["plot"], plain["poster"])
    assert after["plot"] >= plain["plot"]
    assert after["poster"] >= plain["poster"]


def test_inputs_that_help_each_other_stay_together(made):
    fusion, _, features, truth = made
    random = np.random.default_rng(6)
    poster = (truth + random.normal(0.0, 0.6, truth.shape)).astype(np.float32)
    features.values["poster"][:] = poster * features.present[:, 1:]
    mix = fusion.mix.clone()
    assert choose_shares(fusion, fusion.share, FusionFilms(features, truth, np.ones_like(truth))) is None
    after = scores(fusion, features, truth)
    assert after["both"] > max(after["plot"], after["poster"])
    assert torch.equal(fusion.mix, mix)


def test_the_fusion_also_learns_from_films_with_both_inputs_that_the_branches_saw():
    table = sample_table()
    data = read_labelled(table, table.parent, ["Comedy", "Drama"], None)
    recipe = read_recipe("english", ["fusion.holdout=0.3", "fusion.seen=3"])
    held = choose_holdout(recipe, data)
    seen = choose_seen(recipe, data, held)
    assert len(seen) == 3 and not set(seen) & set(held)
    assert all(data.films[row].plot and data.films[row].poster and data.films[row].split == "train" for row in seen)
    assert not len(choose_seen(read_recipe("english", []), data, held))
