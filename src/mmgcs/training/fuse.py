"""From finished branches to the bundle: their fusion, the decisions, the card."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytorch_lightning as lightning
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mmgcs.bundle import MANIFEST, Branch, Bundle
from mmgcs.evaluation import fit_decision, fit_domain
from mmgcs.models import FUSIONS
from mmgcs.runtime import Classifier, Features
from mmgcs.training.card import make_card, write_card
from mmgcs.training.finish import conditions, write_part
from mmgcs.training.job import Run
from mmgcs.training.losses import make_loss
from mmgcs.training.module import FusionModule, input_masks, macro_average_precision
from mmgcs.training.stage import fit

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of a gated fusion's correction, what is tried."""


def assemble(run: Run, holdout: NDArray[np.int64]) -> Bundle:
    """Fuse the branches, fit the decisions on `valid`, evaluate on `test`, and write the bundle."""
    target = run.folder / "bundle"
    if (target / MANIFEST).is_file():
        run.log("the bundle is finished already")
        return Bundle(target)
    specs, graphs, heads = [], {}, []
    for name in run.recipe.branches:
        folder = run.folder / name
        info = json.loads((folder / "branch.json").read_text(encoding="utf-8"))
        specs.append(
            Branch(name, info["input"], info["kind"], info["options"], f"{name}.onnx", info["width"], info["encoder"])
        )
        graphs[name] = folder / info["graph"]
        head = load_file(folder / "head.safetensors")
        heads.append((head["weight"], head["bias"]))
    # The parts' own bundle computes features exactly as running does, quantised graphs and all.
    parts = Classifier(write_part(run, specs, graphs, "linear", heads, run.folder / "parts"))
    data = run.data
    run.log("computing the finished branches' features")
    valid = data.rows("valid")
    features = parts.features([data.films[row] for row in valid])
    fusion: nn.Module = FUSIONS["linear"](heads)
    held: Features | None = None
    if run.recipe.fusion is not None:
        held = parts.features([data.films[row] for row in holdout])
        fusion = train_fusion(run, heads, held, data.truth[holdout], features, data.truth[valid])
    decisions = {}
    for names in conditions([spec.input for spec in specs]):
        having = features.having(specs, names)
        logits = run_fusion(fusion, features.only(specs, names, having))
        more = None  # the fusion alone has seen the films held out; measured by halving valid, they still help
        if held is not None:
            more_having = held.having(specs, names)
            more = run_fusion(fusion, held.only(specs, names, more_having)), data.truth[holdout][more_having]
        decisions["+".join(names)] = fit_decision(
            logits, data.truth[valid][having], coverage=run.recipe.coverage, more=more
        )

    run.log("learning what is unlike films")
    domain = fit_domain(parts, [film for film in data.films if film.split != "test"], log=run.log)
    run.log("measuring the finished bundle for its card")
    bare = write_part(run, specs, graphs, fusion, heads, run.folder / "uncarded", decisions, domain)
    card, text = make_card(run.recipe, data, run.command, run.folder, Classifier(bare))
    bundle = write_part(
        run, specs, graphs, fusion, heads, target, decisions, domain, lambda folder: write_card(folder, card, text)
    )
    shutil.rmtree(run.folder / "parts")
    shutil.rmtree(run.folder / "uncarded")
    run.log(f"the bundle is in {target}")
    return bundle


def run_fusion(fusion: nn.Module, features: Features) -> NDArray[np.float32]:
    """Logits (films, genres) of a torch fusion."""
    fusion.eval()
    with torch.no_grad():
        parts = [torch.from_numpy(value) for value in features.values.values()]
        logits: NDArray[np.float32] = fusion(parts, torch.from_numpy(features.present)).numpy()
    return logits


def train_fusion(
    run: Run,
    heads: list[tuple[Tensor, Tensor]],
    held: Features,
    held_truth: NDArray[np.bool_],
    valid: Features,
    valid_truth: NDArray[np.bool_],
) -> nn.Module:
    """Train the fusion on films that the branches did not see, then choose how much of its correction to use.

    The share of the correction is chosen on `valid` for each branch alone and for all together from a few values,
    0 among them; with 0 a single input gets what its own head says. Where all together are worse than the best head
    alone, that head alone decides. So on `valid` the fusion is never worse than its parts.
    """
    recipe = run.recipe.fusion
    assert recipe is not None
    lightning.seed_everything(run.recipe.seed, verbose=False)
    fusion = FUSIONS[recipe.model.kind](heads, **recipe.model.options)
    full = held.present.sum(1) == held.present.shape[1]
    both = valid.present.sum(1) == valid.present.shape[1]
    positives = torch.from_numpy(held_truth.mean(0).astype(np.float32)).clamp(1e-3, 1 - 1e-3)
    settings = recipe.training
    learner = FusionModule(
        fusion, settings, make_loss(settings.loss.kind, settings.loss.options, positives), recipe.drop
    )
    generator = torch.Generator().manual_seed(run.recipe.seed)
    folder = run.folder / "fusion"
    shutil.rmtree(folder, ignore_errors=True)  # it takes seconds: begun anew rather than resumed
    score = fit(
        learner,
        DataLoader(_tensors(held, held_truth, full), settings.batch_size, shuffle=True, generator=generator),
        DataLoader(_tensors(valid, valid_truth, both), 512),
        settings,
        run.recipe,
        folder,
        progress=run.progress,
    )
    fusion.eval()
    share = getattr(fusion, "share", None)
    if isinstance(share, Tensor):
        best = choose_shares(fusion, share, valid, valid_truth)
        run.log(f"fusion: share of the correction {[round(float(value), 2) for value in share]}")
        if best is not None:
            run.log(f"fusion: {list(valid.values)[best]} alone is better than all together, so it alone decides")
    run.log(f"fusion: mean macro average precision on valid {score:.4f}")
    return fusion


def _tensors(features: Features, truth: NDArray[np.bool_], rows: NDArray[np.bool_]) -> TensorDataset:
    parts = [torch.from_numpy(value[rows]) for value in features.values.values()]
    return TensorDataset(*parts, torch.from_numpy(features.present[rows]), torch.from_numpy(truth[rows]).float())


def choose_shares(fusion: nn.Module, share: Tensor, valid: Features, truth: NDArray[np.bool_]) -> int | None:
    """Choose how much of a gated fusion's correction is used, so that on `valid` it is never worse than its parts.

    Args:
        fusion: the trained fusion; its `share`, and where need be its `mix` and `shift`, are changed.
        share: its (branches + 1,).
        valid: features of the films to choose on.
        truth: (films, genres).

    Returns:
        The branch that decides alone where all inputs are there, since all together were worse; else None.
    """
    branches = valid.present.shape[1]
    for index, mask in enumerate(input_masks(branches)):
        rows = _having(valid, mask)
        scores = []
        for value in SHARES:
            share[index] = value
            scores.append(_score(fusion, valid, truth, rows, mask))
        share[index] = SHARES[int(np.argmax(scores))]
    every = torch.ones(branches)
    rows = _having(valid, every)
    together, chosen = _score(fusion, valid, truth, rows, every), share.clone()
    share.zero_()  # what each branch's own head says
    alone = [_score(fusion, valid, truth, rows, mask) for mask in input_masks(branches)[:-1]]
    share.copy_(chosen)
    best = int(np.argmax(alone))
    if together >= alone[best]:
        return None
    share[-1] = 0.0
    with torch.no_grad():
        fusion.get_parameter("mix").copy_(torch.eye(branches)[best].unsqueeze(1))
        fusion.get_parameter("shift").zero_()
    return best


def _having(features: Features, mask: Tensor) -> NDArray[np.bool_]:
    """Which films have all the inputs of `mask` (branches,)."""
    there: NDArray[np.bool_] = (features.present * mask.numpy()).sum(1) == mask.numpy().sum()
    return there


def _score(
    fusion: nn.Module, features: Features, truth: NDArray[np.bool_], rows: NDArray[np.bool_], mask: Tensor
) -> float:
    """Macro average precision of films whose inputs outside `mask` are hidden."""
    parts = [torch.from_numpy(value[rows]) for value in features.values.values()]
    with torch.no_grad():
        logits = fusion(parts, torch.from_numpy(features.present[rows]) * mask)
    return macro_average_precision(truth[rows], logits.numpy())
