"""How logits should become answers: ways to calibrate, to set thresholds and to abstain, compared on split valid alone.

    python benchmarks/decisions.py --data FILMS --posters DIR [--model DIR] [--cache FILE.npz] [--repeats 5]

Every figure is cross-fitted: of five parts of valid, each is judged by what was fitted on the other four, and this is
repeated with other parts. The named reference of each table is its first row. The films held out for the fusion of
recipes/default.yaml, which the shipped bundle's encoders did not learn from, are the further films for thresholds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from mmgcs import load
from mmgcs.evaluation import fit_thresholds
from mmgcs.evaluation.calibration import confidences, fit_platt
from mmgcs.evaluation.curves import micro_f1, most_confident
from mmgcs.evaluation.reliability import calibration_floor, debiased_calibration_error, expected_calibration_error
from mmgcs.genres import DEFAULT_GENRES
from mmgcs.runtime import Classifier, Features, margins
from mmgcs.training import read_recipe
from mmgcs.training.data import read_labelled
from mmgcs.training.fusion import choose_holdout

RECIPE = Path(__file__).parents[1] / "recipes" / "default.yaml"
CONDITIONS = {"plot": (1.0, 0.0), "poster": (0.0, 1.0), "plot+poster": (1.0, 1.0)}
COVERAGE = 0.8

Array = np.ndarray
Calibrated = Callable[[Array], Array]
Calibrate = Callable[[Array, Array], Calibrated]


def platt(pull: float) -> Calibrate:
    def fit(logits: Array, truth: Array) -> Calibrated:
        slope, intercept = fit_platt(logits, truth, pull=pull)
        return lambda z: expit(slope * z + intercept)

    return fit


def maximum_likelihood(parts: Array, truth: Array, start: Array, pull: float) -> Array:
    """Weights of a logistic regression of `parts` (films, k), pulled to `start` (k,)."""

    def loss(w: Array) -> tuple[float, Array]:
        z = parts @ w
        value = (np.logaddexp(0.0, z) - truth * z).sum() + pull / 2 * ((w - start) ** 2).sum()
        return value, parts.T @ (expit(z) - truth) + pull * (w - start)

    return minimize(loss, start, jac=True, method="L-BFGS-B").x


def beta(logits: Array, truth: Array) -> Calibrated:
    """Beta calibration (Kull et al. 2017), its two slopes pulled to 1."""

    def parts(z: Array) -> Array:
        return np.stack([-np.logaddexp(0.0, -z), np.logaddexp(0.0, z), np.ones(len(z))], 1)

    start = np.array([1.0, 1.0, 0.0])
    weights = [maximum_likelihood(parts(z), there, start, 10.0) for z, there in zip(logits.T, truth.T, strict=True)]
    return lambda z: expit(np.stack([parts(column) @ w for column, w in zip(z.T, weights, strict=True)], 1))


def correlated(logits: Array, truth: Array) -> Calibrated:
    """Each genre from all genres' logits, pulled to Platt scaling."""
    inputs = np.column_stack([logits, np.ones(len(logits))])
    starts = np.eye(inputs.shape[1])[: logits.shape[1]]
    weights = [maximum_likelihood(inputs, truth[:, g], start, 100.0) for g, start in enumerate(starts)]
    return lambda z: expit(np.column_stack([z, np.ones(len(z))]) @ np.array(weights).T)


CALIBRATIONS: dict[str, Calibrate] = {
    "none": lambda logits, truth: expit,
    **{f"Platt, slopes held to 1 by {pull} films": platt(pull) for pull in (0, 1, 5, 20, 100)},
    "beta, slopes held to 1 by 10 films": beta,
    "from all genres' logits": correlated,
}


def expected_f1(p: Array, chosen: Array) -> Array:
    """The exact expected F1, by drawing 400 truths."""
    random = np.random.default_rng(0)
    total = np.zeros(len(p))
    for _ in range(400):
        there = random.random(p.shape) < p
        total += 2 * (there & chosen).sum(1) / np.maximum(1, there.sum(1) + chosen.sum(1))
    return total / 400


RANKINGS: dict[str, Callable[[Array, Array], Array]] = {
    "expected F1, plug-in (kept)": confidences,
    "expected F1, exact": expected_f1,
    "expected shortfall of true genres": lambda p, c: 2 * (p * c).sum(1) - COVERAGE * (c.sum(1) + p.sum(1)),
    "expected errors": lambda p, c: -np.where(c, 1 - p, p).sum(1),
    "most likely genre": lambda p, c: p.max(1),
    "oracle: the true shortfall": lambda p, c: p[:, 0],  # replaced by what the truth says
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--posters", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--cache", type=Path, help="keeps the films' features between calls")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    classifier = load(given.model)
    films = read(given, classifier)
    for name, keep in CONDITIONS.items():
        (logits, truth), more = (logits_of(classifier, films, part, keep) for part in ("valid", "held"))
        print(f"\n## {name}: {len(truth)} films of valid, {len(more[1])} held out of train")
        compare(logits, truth, more, given.repeats)


def read(given: argparse.Namespace, classifier: Classifier) -> dict[str, Array]:
    """Features, presence and truth of valid and of the films held out, under `<part>.<what>`."""
    if given.cache and given.cache.is_file():
        with np.load(given.cache, allow_pickle=False) as kept:
            return dict(kept)
    recipe = read_recipe(RECIPE)
    data = read_labelled(given.data, given.posters, list(DEFAULT_GENRES), recipe.target_source)
    found = {}
    for part, rows in (("valid", data.rows("valid")), ("held", choose_holdout(recipe, data))):
        features = classifier.features([data.films[row] for row in rows])
        found |= {f"{part}.{name}": value for name, value in features.values.items()}
        found |= {f"{part}.present": features.present, f"{part}.truth": data.truth[rows]}
    if given.cache:
        np.savez(given.cache, allow_pickle=False, **found)
    return found


def logits_of(
    classifier: Classifier, films: dict[str, Array], part: str, keep: tuple[float, ...]
) -> tuple[Array, Array]:
    """Logits and truth of the films of a part that have the inputs kept, the others hidden."""
    present, branches = films[f"{part}.present"], classifier.bundle.config.branches
    shown = np.array([keep[("plot", "poster").index(branch.input)] for branch in branches], dtype=np.float32)
    rows = np.flatnonzero((present * shown).sum(1) == shown.sum())
    values = {b.name: films[f"{part}.{b.name}"][rows] * s for b, s in zip(branches, shown, strict=True)}
    logits = classifier.logits(Features(values, present[rows] * shown, [], []))
    return logits.astype(np.float64), films[f"{part}.truth"][rows]


def compare(logits: Array, truth: Array, more: tuple[Array, Array], repeats: int) -> None:
    rows: dict[str, list[list[float]]] = {}
    for repeat in range(repeats):
        part = np.random.default_rng(repeat).permutation(len(truth)) % 5
        held = {name: np.zeros_like(logits) for name in CALIBRATIONS}
        chosen = {name: np.zeros_like(truth) for name in ("of valid", "of valid and the films held out")}
        margin = np.zeros_like(logits)
        p = np.zeros_like(logits)
        for number in range(5):
            seen, unseen = part != number, part == number
            for name, calibrate in CALIBRATIONS.items():
                held[name][unseen] = calibrate(logits[seen], truth[seen])(logits[unseen])
            kept = platt(5)(logits[seen], truth[seen])
            p[unseen] = kept(logits[unseen])
            both = np.concatenate([kept(logits[seen]), kept(more[0])]), np.concatenate([truth[seen], more[1]])
            alone = fit_thresholds(truth[seen], kept(logits[seen]))
            helped = fit_thresholds(both[1], both[0])
            chosen["of valid"][unseen] = p[unseen] >= alone
            chosen["of valid and the films held out"][unseen] = p[unseen] >= helped
            margin[unseen] = margins(p[unseen], helped)
        for name, found in held.items():
            clipped = np.clip(found, 1e-6, 1 - 1e-6)
            loss = -np.where(truth, np.log(clipped), np.log1p(-clipped)).mean()
            error, less = expected_calibration_error(truth, found), debiased_calibration_error(truth, found)
            add(rows, f"calibration | {name}", loss, error.mean(), less.mean(), calibration_floor(found, draws=20))
        for name, picked in chosen.items():
            hits, sizes = (truth & picked).sum(0), truth.sum(0) + picked.sum(0)
            add(rows, f"thresholds | {name}", 2 * hits.sum() / sizes.sum(), (2 * hits / np.maximum(1, sizes)).mean())
        picked = chosen["of valid and the films held out"]
        whole = micro_f1(truth, picked, np.arange(len(truth)))
        for name, rank in RANKINGS.items():
            score = rank(p, picked)
            if name.startswith("oracle"):
                score = 2 * (truth & picked).sum(1) - COVERAGE * (truth.sum(1) + picked.sum(1))
            gain = micro_f1(truth, picked, most_confident(score, COVERAGE)) - whole
            add(rows, f"80% of films | {name}", 100 * gain)
        decided = margin >= np.quantile(margin, 1 - COVERAGE)
        add(
            rows,
            "80% of genres of films | farthest from the threshold",
            100 * (micro_f1(truth, picked, decided) - whole),
        )
    print("calibration: log loss, ECE, debiased, floor; thresholds: micro-F1, macro-F1; abstention: points of micro-F1")
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in np.mean(values, axis=0)) + " |")


def add(rows: dict[str, list[list[float]]], name: str, *values: float) -> None:
    rows.setdefault(name, []).append(list(values))


if __name__ == "__main__":
    main()
