"""New heads on the frozen encoders of a finished bundle: a user's own genres in minutes.

The films' features are computed once, by the bundle itself. On them, each branch gets a linear head (logistic
regression, one per genre). Cross-validation chooses its L2 regularization, so that it works with twenty films per genre
and makes use of thousands. The regularization, the weight of each input for each genre, calibration and thresholds are
all chosen on out-of-fold predictions of train and valid together, so no films have to be set aside.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmgcs.bundle import CARD_JSON, CARD_TEXT, CONFIG, MANIFEST, Bundle, BundleConfig, Decision, write_bundle
from mmgcs.errors import UsageError
from mmgcs.evaluation import WEIGHINGS, fit_decision, macro_average_precision
from mmgcs.export import export_fusion
from mmgcs.files import atomic_writer, sha256, write_json
from mmgcs.models import FUSIONS, GatedFusion
from mmgcs.progress import INTERVAL, progress_bars
from mmgcs.runtime import CARD_KEY, DETECTOR_KEY, Classifier, Features, load, record_samples, write_carded_bundle
from mmgcs.training.card import card_text, make_card
from mmgcs.training.labelled import learned_languages
from mmgcs.training.recipe import HeadRecipe
from mmgcs.training.rundir import Run

LEAST_FILMS = 4
"""The fewest films of a genre, so that each fold has some to learn from and to predict."""
LEAST_INPUT = 10
"""The fewest films with an input; with fewer, the new bundle does not read that input."""


@dataclass(frozen=True)
class Fitted:
    """New heads, with their weights and decisions."""

    heads: dict[str, tuple[Tensor, Tensor]]  # for each branch in use, weight (genres, width) and bias (genres,)
    mix: NDArray[np.float32]  # (branches, genres), the weight of each branch's logit when all inputs are present
    decisions: dict[str, Decision]  # the decision for each combination of inputs
    scores: dict[str, float]  # for each branch, macro average precision of its out-of-fold predictions
    strengths: dict[str, float]  # for each branch, the chosen regularization


def train_head(run: Run, recipe: HeadRecipe) -> Bundle:
    """Fit new heads on `run.data` and write the bundle to the run's folder.

    If no film has the split "test", a fifth of the films is held out to measure the heads; then they are fitted again
    on all films.

    Raises:
        UsageError: there is no such bundle, or it can read too few of the films.
    """
    base = load(recipe.bundle, spin=False)
    data, measured = run.data, run.data
    features = read_features(run, base)
    if not (data.split == "test").any():
        split = data.split.copy()
        split[np.random.default_rng(run.recipe.seed).permutation(len(split))[: len(split) // 5]] = "test"
        measured = replace(data, split=split)
    fitted = fit_heads(run, recipe, base, features, np.flatnonzero(measured.split != "test"))
    encoders = {branch.name: branch.encoder for branch in base.bundle.config.branches}
    for name, score in fitted.scores.items():
        run.log(f"{name}: strength {fitted.strengths[name]:g}, out-of-fold macro average precision {score:.4f}")
        write_json(run.folder / name / "branch.json", {"encoder": encoders[name], "valid_map": score})
    run.log("measuring the heads for the card")
    trial = write_bundle(run.folder / "trial", *_bundle_of(run, base, features, fitted), replace=True)
    card, report = make_card(replace(run, data=measured), Classifier(trial))
    shutil.rmtree(trial.path)
    card["heads"] = {"encoders_of": base.bundle.config.name, "refitted_on_all_films": measured is not data}
    if measured is not data:
        fitted = fit_heads(run, recipe, base, features, np.arange(len(data.films)), fitted.strengths)

    def describe(classifier: Classifier) -> tuple[dict[str, Any], str]:
        # The samples come from the final heads.
        return {**card, CARD_KEY: record_samples(classifier)}, card_text(card, report)

    return write_carded_bundle(run.folder / "bundle", *_bundle_of(run, base, features, fitted), describe, replace=True)


def read_features(run: Run, base: Classifier) -> Features:
    """Return the features of the branches that can read enough of the films. An interrupted run finds them again.

    `strange` is None if more than 5% of the films are unlike those the bundle learned from, because its detectors
    would be of no use.
    """
    films, names = run.data.films, [branch.name for branch in base.bundle.config.branches]
    path = run.folder / f"features-{sha256(base.bundle.path / MANIFEST)[:12]}.npz"
    if not path.is_file():
        with progress_bars(lines=INTERVAL, enabled=run.progress) as update:
            found = base.features(films, progress=partial(update, "reading the films"))
        with atomic_writer(path, "wb") as handle:
            arrays: dict[str, Any] = {"present": found.present, "strange": found.strange, "errors": found.errors}
            np.savez(handle, **found.values | arrays)
    with np.load(path, allow_pickle=False) as kept:
        values = {name: kept[name] for name in names}
        found = Features(values, kept["present"], [()] * len(films), kept["errors"].tolist(), kept["strange"])
    used = np.flatnonzero(found.present.sum(0) >= LEAST_INPUT)
    if not len(used):
        raise UsageError(f"fewer than {LEAST_INPUT} films could be read; check the plots, and --posters")
    names = [names[column] for column in used]
    assert found.strange is not None
    strange = found.strange[:, used]
    return replace(
        found,
        values={name: found.values[name] for name in names},
        present=found.present[:, used],
        strange=strange if strange.any(axis=1).mean() <= 0.05 else None,
    )


def fit_heads(
    run: Run,
    recipe: HeadRecipe,
    base: Classifier,
    features: Features,
    rows: NDArray[np.int64],
    strengths: dict[str, float] | None = None,
) -> Fitted:
    """Fit heads, weights of the branches and decisions on the films `rows`.

    `strengths` are the regularization of each branch; None to choose it.
    """
    data = run.data
    fold = np.random.default_rng(run.recipe.seed).permutation(len(data.films)) % recipe.folds
    heads, scores, chosen, logits = {}, {}, {}, {}
    for column, (name, values) in enumerate(features.values.items()):
        with_input = rows[features.present[rows, column] > 0]
        truth, known = data.truth[with_input], data.known[with_input]
        project, inputs = _principal_directions(values[with_input])
        best: tuple[float, float, NDArray[np.float64]] = (-1.0, 0.0, np.zeros(truth.shape))
        starts: dict[int, NDArray[np.float64]] = {}
        worse = 0
        for strength in sorted([strengths[name]] if strengths else recipe.strengths, reverse=True):
            found = np.zeros(truth.shape)
            for part in np.unique(fold[with_input]):
                held = fold[with_input] == part
                # The previous fit, with more regularization, is a good start.
                weight = starts[part] = logistic(inputs[~held], truth[~held], known[~held], strength, starts.get(part))
                found[held] = inputs[held] @ weight[:-1] + weight[-1]
            score = macro_average_precision(truth, found, known)
            # Prefer strong regularization unless the gain is beyond chance: with few films, the best score fits noise.
            if score > best[0] + 0.25 / np.sqrt(len(with_input)):
                best = (score, strength, found)
            worse = 0 if score >= best[0] else worse + 1
            if worse == 2:
                break
        scores[name], chosen[name], found = best
        heads[name] = project(logistic(inputs, truth, known, chosen[name], None))
        logits[name] = np.full(data.truth.shape, np.nan)
        logits[name][with_input] = found
    mix, decisions = _decide(run, base, logits, rows)
    return Fitted(heads, mix, decisions, scores, chosen)


def logistic(
    inputs: NDArray[np.float64],
    truth: NDArray[np.bool_],
    known: NDArray[np.bool_],
    strength: float,
    start: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Fit logistic regressions of all genres at once, with the penalty `strength` / 2 · ‖weights‖².

    Args:
        inputs: (films, directions).
        truth: (films, genres).
        known: (films, genres); unknown labels are left out.
        strength: the strength of the L2 penalty on the weights; the biases have none.
        start: weights to start from; None for zeros and the genres' frequencies.

    Returns:
        Weights (directions + 1, genres); the last row is the biases.
    """
    from scipy.optimize import minimize
    from scipy.special import expit, logit

    width, genres = inputs.shape[1], truth.shape[1]
    target = truth.astype(np.float64)
    if start is None:
        start = np.zeros((width + 1, genres))
        shares = (truth & known).sum(0) / np.maximum(known.sum(0), 1)
        start[-1] = logit(np.clip(shares, 1e-3, 1 - 1e-3))

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight = flat.reshape(width + 1, genres)
        z = inputs @ weight[:-1] + weight[-1]
        error = (expit(z) - target) * known
        gradient = np.vstack([inputs.T @ error + strength * weight[:-1], error.sum(0)])
        value = ((np.logaddexp(0.0, z) - target * z) * known).sum() + strength / 2 * (weight[:-1] ** 2).sum()
        return float(value), gradient.ravel()

    result = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 100, "ftol": 1e-7})
    weights: NDArray[np.float64] = result.x.reshape(width + 1, genres)
    return weights


def _principal_directions(
    values: NDArray[np.float32],
) -> tuple[Callable[[NDArray[np.float64]], tuple[Tensor, Tensor]], NDArray[np.float64]]:
    """Return the films in the principal directions (films, directions), and a function that maps weights back."""
    mean = values.mean(0, dtype=np.float64)
    spread = values.std(0, dtype=np.float64)
    spread = np.maximum(spread, 1e-3 * spread.max() + 1e-9)  # do not scale up a nearly constant feature
    scaled = (values - mean) / spread
    _, directions = np.linalg.eigh(scaled.T @ scaled)
    directions = directions[:, ::-1][:, :256]  # (width, directions); more take longer and were not better

    def project(weight: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        back = (directions @ weight[:-1]) / spread[:, None]  # (width, genres)
        bias = weight[-1] - mean @ back
        return torch.from_numpy(back.T.astype(np.float32).copy()), torch.from_numpy(bias.astype(np.float32))

    return project, scaled @ directions


def _decide(
    run: Run, base: Classifier, logits: dict[str, NDArray[np.float64]], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], dict[str, Decision]]:
    """Fit the branches' weights and the decisions on out-of-fold logits."""
    truth = run.data.truth
    fit = partial(fit_decision, coverage=run.recipe.coverage)
    inputs = [branch.input for branch in base.bundle.config.branches if branch.name in logits]
    stacked = np.stack(list(logits.values()))  # (branches, films, genres), NaN if a film lacks the input
    there = np.asarray(np.isfinite(stacked).all(axis=2))  # (branches, films)
    mix = np.full((len(logits), truth.shape[1]), 1.0 / len(logits))
    having = [rows[there[index, rows]] for index in range(len(logits))]
    decisions: dict[str, Decision] = {
        name: fit(stacked[i, films], truth[films]) for i, (name, films) in enumerate(zip(inputs, having, strict=True))
    }
    if len(logits) > 1:
        both = rows[there[:, rows].all(axis=0)]
        whole = "+".join(inputs)
        decisions[whole] = decisions[inputs[int(np.argmax([len(films) for films in having]))]]
        if len(both) >= 20:  # with fewer, both inputs have the same weight
            mix = WEIGHINGS["stacked"](stacked[:, both], truth[both])
            decisions[whole] = fit(np.einsum("bg,bfg->fg", mix, stacked[:, both]), truth[both])
    return mix.astype(np.float32), decisions


def _bundle_of(
    run: Run, base: Classifier, features: Features, fitted: Fitted
) -> tuple[BundleConfig, Callable[[Path], None]]:
    """Return the arguments of `write_bundle` for the old encoders with the new heads."""
    old = base.bundle
    branches = tuple(branch for branch in old.config.branches if branch.name in fitted.heads)
    heads = [fitted.heads[branch.name] for branch in branches]
    fusion: nn.Module = FUSIONS["linear"](heads)
    if len(branches) > 1:
        gated = GatedFusion(heads, hidden=1)  # without its correction it is the weighted sum of logits
        gated.share.zero_()
        gated.mix.data.copy_(torch.from_numpy(fitted.mix))
        fusion = gated
    extra: dict[str, Any] = {}
    if features.strange is not None and DETECTOR_KEY in old.config.extra:
        extra[DETECTOR_KEY] = old.config.extra[DETECTOR_KEY]
    learned = dict.fromkeys([*old.config.languages, *learned_languages(run.data.films)])
    languages = run.recipe.languages or tuple(learned)
    dropped = {branch.graph for branch in old.config.branches if branch not in branches}
    dropped |= {CONFIG, CARD_JSON, CARD_TEXT, old.config.fusion}

    def fill(folder: Path) -> None:
        old.copy_to(folder, without=dropped)
        export_fusion(fusion, [b.name for b in branches], [b.width for b in branches], folder / "fusion.onnx")

    genres, decisions = run.data.genres, fitted.decisions
    return BundleConfig(run.recipe.name, genres, branches, "fusion.onnx", decisions, extra, languages), fill
