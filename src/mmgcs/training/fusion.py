"""Fit the fusion of finished branches, on films that the branches have not seen, and the decisions after it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytorch_lightning as lightning
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mmgcs.bundle import Branch, Decision, input_combinations
from mmgcs.errors import UsageError
from mmgcs.evaluation import fit_decision, macro_average_precision
from mmgcs.models import FUSIONS
from mmgcs.runtime import Features
from mmgcs.training.labelled import Labelled
from mmgcs.training.losses import LOSSES
from mmgcs.training.module import FusionModule, input_masks
from mmgcs.training.recipe import Recipe
from mmgcs.training.rundir import Run
from mmgcs.training.trainer import fit

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of a gated fusion's correction that are tried."""


@dataclass(frozen=True)
class FusionFilms:
    """Films as the fusion sees them."""

    features: Features  # the branches' features
    truth: NDArray[np.bool_]  # (films, genres), as in `Labelled`; so is `known`
    known: NDArray[np.bool_]

    def and_also(self, other: FusionFilms) -> FusionFilms:
        """Return these films, followed by others."""
        return FusionFilms(
            Features.concatenate([self.features, other.features]),
            np.concatenate([self.truth, other.truth]),
            np.concatenate([self.known, other.known]),
        )


def choose_holdout(recipe: Recipe, data: Labelled) -> NDArray[np.int64]:
    """Return training films with both inputs, of the target source, that the branches do not see.

    Their plots in other languages are rows of the same film, so those are held out with them.
    """
    if recipe.fusion is None:
        return np.zeros(0, dtype=np.int64)
    both = _with_both(data, "train")
    count = int(len(both) * recipe.fusion.holdout)
    if count < 2 or not len(_with_both(data, "valid")):
        raise UsageError("the fusion needs train and valid films with both plot and poster; this data has too few")
    target = both[data.source[both] == 0]
    pool = target if len(target) >= count else both
    chosen = np.random.default_rng(recipe.seed).choice(pool, count, replace=False)
    names = {data.films[row].id for row in chosen} - {""}
    same = [row for row in data.rows("train") if data.films[row].id in names]
    return np.union1d(chosen, np.array(same, dtype=np.int64))


def choose_seen(recipe: Recipe, data: Labelled, holdout: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return training films with both inputs, outside the holdout, that the fusion learns from too."""
    others = np.setdiff1d(_with_both(data, "train"), holdout)
    count = recipe.fusion.seen if recipe.fusion else 0
    return np.sort(np.random.default_rng(0).permutation(others)[:count])


def _with_both(data: Labelled, split: str) -> NDArray[np.int64]:
    return np.intersect1d(data.rows(split, "plot"), data.rows(split, "poster"))


def fused_with(
    fusion: nn.Module, films: FusionFilms, having: Tensor, shown: Tensor
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return logits, truth and known of the films that have the inputs `having`, with only those in `shown` shown.

    Both are masks of the branches, (branches,) of 0 and 1.
    """
    present = films.features.present
    rows = (present * having.numpy()).sum(1) == having.numpy().sum()
    parts = [torch.from_numpy(value[rows]) for value in films.features.values.values()]
    with torch.no_grad():
        logits: NDArray[np.float32] = fusion(parts, torch.from_numpy(present[rows]) * shown).numpy()
    return logits, films.truth[rows], films.known[rows]


def train_fusion(run: Run, heads: list[tuple[Tensor, Tensor]], held: FusionFilms, valid: FusionFilms) -> nn.Module:
    """Train the fusion, then choose how much of its correction to use.

    The weight of the correction is chosen on `valid`, for each branch alone and for all together, from a few values
    including zero. With zero, a single input gets the prediction of its own head. If all together are worse than the
    best head alone, that head decides alone. So on `valid` the fusion is never worse than its parts.
    """
    recipe = run.recipe.fusion
    assert recipe is not None
    lightning.seed_everything(run.recipe.seed, verbose=False)
    fusion = FUSIONS[recipe.model.kind](heads, **recipe.model.options)
    shares = (held.truth & held.known).sum(0) / np.maximum(held.known.sum(0), 1)
    positives = torch.from_numpy(shares.astype(np.float32)).clamp(1e-3, 1 - 1e-3)
    settings = recipe.training
    loss = LOSSES[settings.loss.kind](positives, **settings.loss.options)
    generator = torch.Generator().manual_seed(run.recipe.seed)
    shutil.rmtree(run.folder / "fusion", ignore_errors=True)  # it takes seconds, so it is never resumed
    score = fit(
        FusionModule(fusion, settings, loss, recipe.drop),
        DataLoader(_with_all_inputs(held), settings.batch_size, shuffle=True, generator=generator),
        DataLoader(_with_all_inputs(valid), 512),
        settings,
        run,
        "fusion",
    )
    fusion.eval()
    share = getattr(fusion, "share", None)
    if isinstance(share, Tensor):
        best = choose_shares(fusion, share, valid)
        run.log(f"fusion: weight of the correction {[round(float(value), 2) for value in share]}")
        if best is not None:
            run.log(f"fusion: {list(valid.features.values)[best]} alone is better than all together, so it decides")
    run.log(f"fusion: mean macro average precision on valid {score:.4f}")
    return fusion


def _with_all_inputs(films: FusionFilms) -> TensorDataset:
    present = films.features.present
    rows = present.sum(1) == present.shape[1]
    parts = [torch.from_numpy(value[rows]) for value in films.features.values.values()]
    labels = (torch.from_numpy(value[rows]).float() for value in (films.truth, films.known))
    return TensorDataset(*parts, torch.from_numpy(present[rows]), *labels)


def choose_shares(fusion: nn.Module, share: Tensor, valid: FusionFilms) -> int | None:
    """Choose how much of a gated fusion's correction is used, so that on `valid` it is never worse than its parts.

    Changes the fusion's `share` (branches + 1,), and if necessary its `mix` and `shift`.

    Returns:
        The branch that decides alone when all inputs are present, if all together were worse; otherwise None.
    """
    branches = valid.features.present.shape[1]
    masks = input_masks(branches)
    for index, mask in enumerate(masks):
        scores = []
        for value in SHARES:
            share[index] = value
            scores.append(_score(fusion, valid, mask, mask))
        share[index] = SHARES[int(np.argmax(scores))]
    every = torch.ones(branches)
    together, chosen = _score(fusion, valid, every, every), share.clone()
    share.zero_()  # each branch's own head
    alone = [_score(fusion, valid, every, mask) for mask in masks[:-1]]
    share.copy_(chosen)
    best = int(np.argmax(alone))
    if together >= alone[best]:
        return None
    share[-1] = 0.0
    with torch.no_grad():
        fusion.get_parameter("mix").copy_(torch.eye(branches)[best].unsqueeze(1))
        fusion.get_parameter("shift").zero_()
    return best


def _score(fusion: nn.Module, films: FusionFilms, having: Tensor, shown: Tensor) -> float:
    logits, truth, known = fused_with(fusion, films, having, shown)
    return macro_average_precision(truth, logits, known)


def fit_decisions(
    fusion: nn.Module, specs: Sequence[Branch], valid: FusionFilms, held: FusionFilms | None, coverage: float
) -> dict[str, Decision]:
    """Fit a decision on `valid` for each combination of inputs, such as "plot+poster".

    `held` are the films held out for the fusion, if there is one. Only the fusion has seen them; measured by halving
    `valid`, they still improve the decisions.
    """
    decisions = {}
    for condition in input_combinations([spec.input for spec in specs]):
        names = condition.split("+")
        mask = torch.tensor([float(spec.input in names) for spec in specs])
        logits, truth, known = fused_with(fusion, valid, mask, mask)
        more = None if held is None else fused_with(fusion, held, mask, mask)
        decisions[condition] = fit_decision(logits, truth, coverage, known=known, more=more)
    return decisions
