"""One's own genres in minutes: new heads on the frozen encoders of a finished bundle.

The films' features are computed once, by the bundle itself. On them each branch gets a linear head for every genre
(multinomial-free logistic regression, one genre beside the other), shrunk as strongly as cross-validation says, so that
twenty films a genre are enough to begin with and thousands are used. Everything is chosen on out-of-fold predictions
of train and valid together, so no film has to be set aside for it: the strength, how much each input counts for each
genre, calibration and thresholds.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmgcs.bundle import CARD_JSON, CARD_TEXT, CONFIG, MANIFEST, Bundle, BundleConfig, Decision, write_bundle
from mmgcs.errors import UsageError
from mmgcs.evaluation import fit_decision
from mmgcs.evaluation.ensemble import WEIGHINGS
from mmgcs.export import export_fusion
from mmgcs.files import sha256, write_json
from mmgcs.labels import read_labels
from mmgcs.models import FUSIONS
from mmgcs.models.gated_fusion import GatedFusion
from mmgcs.runtime import Classifier, load
from mmgcs.runtime.domain import DOMAIN, DOMAIN_FILE
from mmgcs.training.card import make_card, write_card
from mmgcs.training.data import Labelled
from mmgcs.training.finish import conditions
from mmgcs.training.job import Run
from mmgcs.training.module import macro_average_precision
from mmgcs.training.recipe import HeadRecipe
from mmgcs.training.seen import Remembering, Seen, see

LEAST_FILMS = 4
"""Films that a genre needs: one for each of two folds to learn from and be judged on, and another."""
LEAST_BOTH = 20
"""Films with both inputs from which their shares are fitted; with fewer, both count alike."""
KEPT = 256
"""Directions of the features that heads are fitted in: the fit's time grows with them, and more gained nothing."""
NOISE = 0.25
"""How much better average precision must be, times the root of the number of films, for weaker shrinkage."""
PATIENCE = 2
"""Weaker shrinkages in a row that may be worse than the best before no weaker one is tried."""


def read_own(path: Path, posters: Path | None, genres: Sequence[str] | None) -> Labelled:
    """Read films with a user's own genres. Films without a split are learned from, unless others are of split train.

    Args:
        path: the table.
        posters: the folder that its posters lie in.
        genres: the genres to learn; None for all that at least `LEAST_FILMS` films have.

    Raises:
        UsageError: there is no column of genres, fewer than two genres can be learned, or a genre that was asked for
            has too few films.
    """
    from mmgcs.tables import need_column, read_films

    films = [film for chunk in read_films(path, posters=posters) for film in chunk if film.problem is None]
    if not any(film.genres for film in films):
        need_column(path, "genres")
    films = [film for film in films if film.genres and (film.plot or film.poster)]
    if not any(film.split == "train" for film in films):
        films = [replace(film, split=film.split or "train") for film in films]
    films = [film for film in films if film.split in ("train", "valid", "test")]
    learned = [film for film in films if film.split != "test"]
    counts = Counter(genre for film in learned for genre in film.genres or ())
    if genres is None:
        genres = sorted(genre for genre, count in counts.items() if count >= LEAST_FILMS)
    rare = [genre for genre in genres if counts[genre] < LEAST_FILMS]
    if rare:
        raise UsageError(f"{path} has fewer than {LEAST_FILMS} films of {', '.join(rare)}; add films or leave it out")
    if len(genres) < 2:
        raise UsageError(f"{path} has {len(genres)} genres with {LEAST_FILMS} films or more; at least two are needed")
    split = np.array([film.split or "" for film in films])
    zeros = np.zeros(len(films), dtype=np.int64)
    truth, known = read_labels(films, genres)
    return Labelled(films, tuple(genres), truth, known, split, ("own",), zeros, sha256(path))


@dataclass(frozen=True)
class Fitted:
    """New heads and what goes with them.

    Attributes:
        heads: for each branch that is kept, weight (genres, width) and bias (genres,).
        mix: (branches, genres), how much each branch's logit counts where all are there.
        decisions: for each combination of inputs the decision.
        scores: for each branch, macro average precision of its out-of-fold predictions.
        strengths: for each branch, the strength that was chosen.
    """

    heads: dict[str, tuple[Tensor, Tensor]]
    mix: NDArray[np.float32]
    decisions: dict[str, Decision]
    scores: dict[str, float]
    strengths: dict[str, float]


def train_head(run: Run, recipe: HeadRecipe) -> Bundle:
    """Fit the heads that a recipe asks for on `run.data` and write the bundle to the run's folder.

    Where the films have no split "test", a fifth is held out for the card; after that the heads are fitted again on
    all films.

    Raises:
        UsageError: there is no bundle to take the encoders from, or it can read too few of the films.
    """
    target = run.folder / "bundle"
    if (target / MANIFEST).is_file():
        run.log("the bundle is finished already")
        return Bundle(target)
    base = load(None if recipe.bundle == "default" else recipe.bundle, spin=False)
    data = run.data
    seen = see(run, base)
    shown = data
    if not (data.split == "test").any():
        split = data.split.copy()
        split[np.random.default_rng(run.recipe.seed).permutation(len(split))[: len(split) // 5]] = "test"
        shown = replace(data, split=split)
    fitted = fit_heads(run, recipe, base, seen, np.flatnonzero(shown.split != "test"))
    for name, score in fitted.scores.items():
        run.log(f"{name}: strength {fitted.strengths[name]:g}, out-of-fold macro average precision {score:.4f}")
        (run.folder / name).mkdir(exist_ok=True)
        encoder = next(branch.encoder for branch in base.bundle.config.branches if branch.name == name)
        found = {"encoder": encoder, "graph": f"{name}.onnx", "valid_map": score}
        write_json(run.folder / name / "branch.json", found)
    run.log("measuring it for its card")
    measured = _write(run, base, seen, fitted, run.folder / "uncarded")
    card, text = make_card(run.recipe, shown, run.command, run.folder, Remembering(measured, data.films, seen))
    note = (
        f"Only the heads are new: the encoders are those of the bundle {base.bundle.config.name!r}, unchanged. Heads, "
    )
    note += "calibration and thresholds were chosen on out-of-fold predictions of train and valid together."
    if shown is not data:
        fitted = fit_heads(run, recipe, base, seen, np.arange(len(data.films)), fitted.strengths)
        note += "\nThe films of test were drawn to measure; after that the heads were fitted again on all films."
    card["heads"] = {"encoders_of": base.bundle.config.name, "refitted_on_all_films": shown is not data}
    text = f"{text.rstrip()}\n\n## Heads\n\n{note}\n"
    bundle = _write(run, base, seen, fitted, target, lambda folder: write_card(folder, card, text))
    shutil.rmtree(run.folder / "uncarded")
    run.log(f"the bundle is in {target}")
    return bundle


def fit_heads(
    run: Run,
    recipe: HeadRecipe,
    base: Classifier,
    seen: Seen,
    rows: NDArray[np.int64],
    strengths: dict[str, float] | None = None,
) -> Fitted:
    """Fit heads, shares and decisions on the films `rows`.

    Args:
        run: for the data and the seed.
        recipe: what to try.
        base: the bundle of the encoders.
        seen: the films' features.
        rows: the films to learn from.
        strengths: for each branch, the strength; None to choose it.
    """
    truth = run.data.truth
    fold = np.random.default_rng(run.recipe.seed).permutation(len(truth)) % recipe.folds
    heads, scores, chosen, logits = {}, {}, {}, {}
    for name, values in seen.values.items():
        mine = rows[seen.present[name][rows]]
        project, inputs = _directions(values[mine])
        best: tuple[float, float, NDArray[np.float64]] | None = None
        starts: dict[int, NDArray[np.float64]] = {}
        worse = 0
        for strength in sorted([strengths[name]] if strengths else recipe.strengths, reverse=True):
            found = np.zeros((len(mine), truth.shape[1]))
            for part in range(recipe.folds):
                held = fold[mine] == part
                if not held.any():
                    continue
                # The fit before, which was shrunk more, is a good place to start.
                weight = starts[part] = logistic(inputs[~held], truth[mine[~held]], strength, starts.get(part))
                found[held] = inputs[held] @ weight[:-1] + weight[-1]
            score = macro_average_precision(truth[mine], found)
            # The strongest that is as good as chance allows: with few films the best of all follows their noise.
            if best is None or score > best[0] + NOISE / np.sqrt(len(mine)):
                best = (score, strength, found)
            worse = 0 if score >= best[0] else worse + 1
            if worse >= PATIENCE:
                break
        assert best is not None
        scores[name], chosen[name], found = best
        weight = logistic(inputs, truth[mine], chosen[name], None)
        heads[name] = project(weight)
        logits[name] = np.full(truth.shape, np.nan)
        logits[name][mine] = found
    mix, decisions = _decide(run, base, logits, rows)
    return Fitted(heads, mix, decisions, scores, chosen)


def logistic(
    inputs: NDArray[np.float64], truth: NDArray[np.bool_], strength: float, start: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Logistic regressions of all genres at once, shrunk by `strength` / 2 · ‖weights‖².

    Args:
        inputs: (films, kept).
        truth: (films, genres).
        strength: how strongly weights are pulled to nought; the biases are not.
        start: weights to start from; None for noughts and the genres' frequencies.

    Returns:
        Weights (kept + 1, genres); the last row is the biases.
    """
    from scipy.optimize import minimize
    from scipy.special import expit, logit

    width, genres = inputs.shape[1], truth.shape[1]
    target = truth.astype(np.float64)
    if start is None:
        start = np.zeros((width + 1, genres))
        start[-1] = logit(np.clip(target.mean(0), 1e-3, 1 - 1e-3))

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight = flat.reshape(width + 1, genres)
        z = inputs @ weight[:-1] + weight[-1]
        error = expit(z) - target
        gradient = np.vstack([inputs.T @ error + strength * weight[:-1], error.sum(0)])
        value = (np.logaddexp(0.0, z) - target * z).sum() + strength / 2 * (weight[:-1] ** 2).sum()
        return float(value), gradient.ravel()

    result = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 100, "ftol": 1e-7})
    weights: NDArray[np.float64] = result.x.reshape(width + 1, genres)
    return weights


def _directions(
    values: NDArray[np.float32],
) -> tuple[Callable[[NDArray[np.float64]], tuple[Tensor, Tensor]], NDArray[np.float64]]:
    """The features' main directions: the films in them (films, kept), and the way of weights back to the features."""
    mean = values.mean(0, dtype=np.float64)
    spread = values.std(0, dtype=np.float64)
    spread = np.maximum(spread, 1e-3 * spread.max() + 1e-9)  # a feature that hardly differs must not count as others
    scaled = (values - mean) / spread
    _, directions = np.linalg.eigh(scaled.T @ scaled)
    directions = directions[:, ::-1][:, :KEPT]  # (width, kept)

    def project(weight: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        back = (directions @ weight[:-1]) / spread[:, None]  # (width, genres)
        bias = weight[-1] - mean @ back
        return torch.from_numpy(back.T.astype(np.float32).copy()), torch.from_numpy(bias.astype(np.float32))

    return project, scaled @ directions


def _decide(
    run: Run, base: Classifier, logits: dict[str, NDArray[np.float64]], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], dict[str, Decision]]:
    """How much each branch counts where all are there, and the decisions, from out-of-fold logits."""
    truth = run.data.truth
    input_of = {branch.name: branch.input for branch in base.bundle.config.branches}
    stacked = np.stack(list(logits.values()))  # (branches, films, genres), NaN where a film lacks the input
    there = np.asarray(np.isfinite(stacked).all(axis=2))  # (branches, films)
    mix = np.full((len(logits), truth.shape[1]), 1.0 / len(logits))
    both = rows[there[:, rows].all(axis=0)]
    if len(logits) > 1 and len(both) >= LEAST_BOTH:
        mix = WEIGHINGS["stacked"](stacked[:, both], truth[both])
    decisions: dict[str, Decision] = {}
    most = ("", 0)
    for index, name in enumerate(logits):
        mine = rows[there[index, rows]]
        decisions[input_of[name]] = fit_decision(stacked[index, mine], truth[mine], coverage=run.recipe.coverage)
        most = max(most, (input_of[name], len(mine)), key=lambda pair: pair[1])
    for names in conditions([input_of[name] for name in logits]):
        if len(names) > 1:
            fused = np.einsum("bg,bfg->fg", mix, stacked[:, both])
            enough = len(both) >= LEAST_BOTH
            decision = fit_decision(fused, truth[both], coverage=run.recipe.coverage) if enough else decisions[most[0]]
            decisions["+".join(names)] = decision
    return mix.astype(np.float32), decisions


def _write(
    run: Run,
    base: Classifier,
    seen: Seen,
    fitted: Fitted,
    path: Path,
    finish: Callable[[Path], None] = lambda folder: None,
) -> Bundle:
    """The bundle of the old encoders and the new heads."""
    old = base.bundle
    branches = tuple(branch for branch in old.config.branches if branch.name in fitted.heads)
    heads = [fitted.heads[branch.name] for branch in branches]
    fusion: nn.Module = FUSIONS["linear"](heads)
    if len(branches) > 1:
        gated = GatedFusion(heads, hidden=1)  # without its correction it is the weighted sum of logits
        gated.share.zero_()
        gated.mix.data.copy_(torch.from_numpy(fitted.mix))
        fusion = gated
    keeps_detectors = DOMAIN in old.config.extra and seen.keeps_detectors
    extra = {DOMAIN: old.config.extra[DOMAIN]} if keeps_detectors else {}
    config = BundleConfig(run.recipe.name, run.data.genres, branches, "fusion.onnx", fitted.decisions, extra)
    dropped = {branch.graph for branch in old.config.branches if branch not in branches}
    dropped |= {CONFIG, CARD_JSON, CARD_TEXT, old.config.fusion, *(() if keeps_detectors else (DOMAIN_FILE,))}

    def fill(folder: Path) -> None:
        old.copy_to(folder, without=dropped)
        export_fusion(fusion, [b.name for b in branches], [b.width for b in branches], folder / "fusion.onnx")
        finish(folder)

    return write_bundle(path, config, fill, replace=True)
