"""Train one branch of a model: prepare its films, fit its encoder and head, export its graph."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmgcs.bundle import Branch, write_bundle
from mmgcs.errors import UsageError
from mmgcs.export import export_encoder, halve_weights, quantize_dynamic, quantize_static
from mmgcs.files import write_json
from mmgcs.models import ENCODERS, Encoder, SourceHead, TokenEncoder
from mmgcs.preprocess import PlotTokens
from mmgcs.training.assemble import FinishedBranch, assemble, score_branch
from mmgcs.training.augment import Augmenter
from mmgcs.training.bag import add_bag
from mmgcs.training.batches import Batches, BranchData, Rows, cache_pays
from mmgcs.training.distill import load_teacher, read_soft_targets
from mmgcs.training.labelled import Labelled, fingerprint
from mmgcs.training.losses import LOSSES
from mmgcs.training.module import BranchModule
from mmgcs.training.recipe import OWN_PLOTS, BranchRecipe
from mmgcs.training.rundir import Run
from mmgcs.training.trainer import fit

CALIBRATION_FILMS = 256
"""Training films used to measure the ranges of an int8 graph's activations."""


@dataclass(frozen=True)
class Trained:
    """A trained branch at its best weights.

    Attributes:
        encoder: the encoder, on the CPU.
        head: weight (genres, width) and bias (genres,) of the linear head for the target source.
        rows: the films it was trained on.
        valid: the films it was validated on.
        score: macro average precision on `valid`.
    """

    encoder: Encoder
    head: tuple[Tensor, Tensor]
    rows: Rows
    valid: Rows
    score: float


def train_branch(run: Run, name: str, recipe: BranchRecipe, holdout: Rows) -> FinishedBranch:
    """Train one encoder with its head and export the graph, unless an earlier call did.

    Args:
        run: the training.
        name: "plot" or "poster".
        recipe: the branch's part of the recipe.
        holdout: rows of films to leave out.
    """
    folder = run.folder / name
    if (folder / "branch.json").is_file():
        run.log(f"{name}: already trained")
    else:
        trained = fit_branch(run, name, recipe, holdout)
        state = {key: value.contiguous() for key, value in trained.encoder.state_dict().items()}
        save_file(state, folder / "encoder.safetensors")
        export_branch(run, name, recipe, trained)
        for cache in folder.glob("cache-*"):
            shutil.rmtree(cache, ignore_errors=True)
    return finished_branch(run, name)


def finished_branch(run: Run, name: str) -> FinishedBranch:
    """Read a finished branch from the run's folder."""
    folder = run.folder / name
    info = json.loads((folder / "branch.json").read_text(encoding="utf-8"))
    head = load_file(folder / "head.safetensors")
    spec = Branch(name, info["input"], info["kind"], info["options"], f"{name}.onnx", info["width"], info["encoder"])
    return FinishedBranch(spec, folder / info["graph"], (head["weight"], head["bias"]))


def check_branches(run: Run, holdout: Rows) -> None:
    """Raise the errors of every branch's films, encoder and teacher now, not after another branch's training."""
    for name, branch in run.recipe.branches.items():
        if not (run.folder / name).exists():
            choose_rows(run.data, name, branch, holdout)
            make_encoder(branch)
            if branch.distill and branch.distill.teacher != OWN_PLOTS:
                load_teacher(branch.distill.teacher, run.data.genres)


def choose_rows(data: Labelled, name: str, recipe: BranchRecipe, holdout: Rows) -> tuple[Rows, Rows]:
    """Return the rows of films to train a branch on, without those of `holdout`, and those to validate it on.

    Raises:
        UsageError: no training or no validation film has the input.
    """
    rows, valid = np.setdiff1d(data.rows("train", name), holdout), data.rows("valid", name)
    rows = rows[data.weights(recipe.source_weights)[rows] > 0]  # films with zero weight would only cost time
    if not len(rows) or not len(valid):
        raise UsageError(f"the data has {len(rows)} train and {len(valid)} valid films with a {name}; both are needed")
    return rows, valid


def make_encoder(recipe: BranchRecipe) -> Encoder:
    """Return the encoder that a recipe names."""
    return ENCODERS[recipe.encoder.kind](**recipe.encoder.options)


def learn_words(encoder: Encoder, data: Labelled, rows: Rows) -> None:
    """Let an encoder learn its vocabulary from the training films, never from those of `valid`."""
    preprocessor = encoder.preprocessor()
    if isinstance(preprocessor, PlotTokens):
        encoder.learn_words([preprocessor.text(data.films[row]) for row in rows])


def fit_branch(
    run: Run, name: str, recipe: BranchRecipe, holdout: Rows, watch: Callable[[float], None] | None = None
) -> Trained:
    """Train one encoder with its head, continuing from a checkpoint if there is one.

    Args:
        run: the training.
        name: "plot" or "poster".
        recipe: the branch's part of the recipe.
        holdout: rows of films to leave out.
        watch: called with the score of each validation.

    Raises:
        UsageError: no training or no validation film has the input, or none can be read.
    """
    folder, data, settings, seed = run.folder / name, run.data, recipe.training, run.recipe.seed
    lightning.seed_everything(seed, verbose=False)
    encoder = make_encoder(recipe)
    rows, valid = choose_rows(data, name, recipe, holdout)
    run.log(f"{name}: {len(rows):,} films to train on, {len(valid):,} to validate on")
    folder.mkdir(parents=True, exist_ok=True)
    learn_words(encoder, data, rows)
    films = _prepare(run, name, recipe, encoder, rows, valid)
    rows, valid = np.intersect1d(rows, films.rows), np.intersect1d(valid, films.rows)
    if not len(rows) or not len(valid):
        raise UsageError(f"the data has {len(rows)} train and {len(valid)} valid films whose {name} can be read")
    if recipe.distill:
        run.log(f"{name}: computing the teacher's probabilities")
        teacher = recipe.distill.teacher
        answers = folder / "teacher.npy"
        if teacher == OWN_PLOTS:
            teacher = str(folder / "teacher")
            if not answers.is_file():
                write_bundle(folder / "teacher", *assemble(run, [finished_branch(run, "plot")]), replace=True)
        films.soft = read_soft_targets(answers, teacher, data, rows, progress=run.progress)
        shutil.rmtree(folder / "teacher", ignore_errors=True)
    head = SourceHead(encoder.width, len(data.genres), len(data.sources), 0)
    positives = torch.from_numpy(data.shares(rows)).clamp(1e-3, 1 - 1e-3)
    with torch.no_grad():
        head.common.bias.copy_(torch.logit(positives))
    loss = LOSSES[settings.loss.kind](positives, **settings.loss.options)
    module = BranchModule(encoder, head, settings, loss, recipe.distill.share if recipe.distill else 0.0)
    score = fit(
        module,
        Batches(films, rows, settings.batch_size, seed, shuffle=True),
        Batches(films, valid, 64, seed, shuffle=False),
        settings,
        run,
        name,
        devices=run.devices,
        watch=watch,
    )
    run.log(f"{name}: macro average precision on valid {score:.4f}")
    module.cpu().eval()
    return Trained(encoder, head.target_linear(), rows, valid, score)


def _prepare(run: Run, name: str, recipe: BranchRecipe, encoder: Encoder, rows: Rows, valid: Rows) -> BranchData:
    """Prepare a branch's films, and cache the frozen part of its encoder if that pays."""
    folder, settings = run.folder / name, recipe.training
    films = BranchData(
        encoder,
        run.data,
        np.concatenate([rows, valid]),
        views=recipe.views,
        weights=recipe.source_weights,
        augment=Augmenter([(change.kind, change.options) for change in recipe.augment], name),
        progress=run.progress,
    )
    if settings.cache and cache_pays(encoder, settings.epochs, recipe.views):
        key = fingerprint([run.data.fingerprint, recipe.encoder, recipe.views, recipe.augment, rows[:50], len(rows)])
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        films.cache_stem((run.caches or folder) / f"cache-{key}", device, run.log)
    if films.unreadable:
        write_json(folder / "unreadable.json", films.unreadable)
        run.log(f"{name}: {len(films.unreadable)} could not be read; see {folder / 'unreadable.json'}")
    return films


def export_branch(run: Run, name: str, recipe: BranchRecipe, trained: Trained) -> None:
    """Write a trained branch's graph and its description.

    The graph is int8 if that costs little enough on `valid`; otherwise its weights are stored in 16 bits.
    """
    folder, data = run.folder / name, run.data
    encoder, head, score = trained.encoder, trained.head, trained.score
    if recipe.token_bag:
        assert isinstance(encoder, TokenEncoder)
        weights = data.weights(recipe.source_weights)[trained.rows]
        encoder, head, share, score = add_bag(encoder, head, data, trained.rows, trained.valid, weights)
        run.log(f"{name}: with {share} of a linear model of the tokens, {score:.4f}")
    save_file({"weight": head[0].contiguous(), "bias": head[1].contiguous()}, folder / "head.safetensors")
    (folder / "assets").mkdir(exist_ok=True)
    options = encoder.save_assets(folder / "assets")
    run.log(f"{name}: exporting the graph")
    graph = folder / "float.onnx"
    export_encoder(encoder, graph)
    spec = Branch(name, encoder.input, encoder.kind, options, f"{name}.onnx", encoder.width, recipe.encoder.kind)
    result: dict[str, Any] = {"valid_map": score}
    if recipe.int8:
        small, half = folder / "int8.onnx", folder / "half.onnx"
        _quantize(run, encoder, trained.rows, graph, small)
        scores = {
            kind: score_branch(run, FinishedBranch(spec, file, head), trained.valid)
            for kind, file in (("float", graph), ("int8", small))
        }
        cost = 100.0 * (scores["float"]["macro_f1"] - scores["int8"]["macro_f1"])
        result["quantization"] = {**scores, "cost_points_macro_f1": cost}
        kept = cost <= recipe.int8_may_cost
        run.log(
            f"{name}: int8 costs {cost:+.2f} points of macro-F1 on valid; {'using int8' if kept else 'keeping float'}"
        )
        if not kept:
            halve_weights(graph, half)
        graph = small if kept else half
    info = {"options": options, "width": spec.width, "input": spec.input, "kind": spec.kind, "encoder": spec.encoder}
    write_json(folder / "branch.json", {"graph": graph.name, **info, **result})


def _quantize(run: Run, encoder: Encoder, rows: Rows, source: Path, target: Path) -> None:
    preprocessor = encoder.preprocessor()
    chosen = np.random.default_rng(run.recipe.seed).permutation(rows)[:CALIBRATION_FILMS]
    batches = (preprocessor.collate(preprocessor.prepare([run.data.films[row]])) for row in chosen)
    (quantize_static if encoder.kind == "pixels" else quantize_dynamic)(source, target, batches)
