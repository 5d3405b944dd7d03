"""Fit the weights of an ensemble's bundles on films of split `valid`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmgcs.bundle import Decision, input_combinations
from mmgcs.errors import UsageError
from mmgcs.evaluation.calibration import fit_decision, fit_logistic
from mmgcs.evaluation.metrics import average_precision, macro_average_precision
from mmgcs.film import Film
from mmgcs.labels import label_sources, read_labels
from mmgcs.registry import Registry
from mmgcs.runtime import Classifier

Weigh = Callable[[NDArray[np.float64], NDArray[np.bool_]], NDArray[np.float64]]
"""Turns calibrated logits (members, films, genres) and truth (films, genres) into weights (members, genres)."""

WEIGHINGS: Registry[Weigh] = Registry("ensemble method")


@WEIGHINGS.register("weighted")
def weighted(logits: NDArray[np.float64], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Choose one share per member: of 200 random draws, the one with the best mean average precision."""
    members, _, genres = logits.shape
    random = np.random.default_rng(0)
    drawn = random.dirichlet(np.ones(members), 200)
    shares = np.concatenate([np.full((1, members), 1.0 / members), np.eye(members), drawn])
    scores = [np.nanmean(average_precision(truth, np.tensordot(share, logits, 1))) for share in shares]
    best = shares[int(np.argmax(scores))]  # if several are equally good, the first: equal shares
    return np.repeat(best[:, None], genres, axis=1)


@WEIGHINGS.register("stacked")
def stacked(logits: NDArray[np.float64], truth: NDArray[np.bool_], pull: float = 10.0) -> NDArray[np.float64]:
    """Fit weights for each genre by logistic regression (Wolpert 1992, stacking), none negative (Breiman 1996).

    Each is pulled towards an equal share, with `pull` films' worth of evidence.
    """
    equal = 1.0 / len(logits)
    weights = [
        fit_logistic(logits[:, :, genre], truth[:, genre].astype(np.float64), centre=equal, pull=pull, least=0.0)[0]
        for genre in range(truth.shape[1])
    ]
    return np.stack(weights, axis=1)


@dataclass(frozen=True)
class Blend:
    """A fitted ensemble."""

    genres: tuple[str, ...]  # the genres, in the first member's order
    # (members, conditions, genres), the factors of the members' raw logits; 0 where a member reads none of the
    # condition's inputs
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]  # (conditions, genres)
    decisions: dict[str, Decision]  # for each condition the decision
    # for each condition, the mean average precision on `valid` of the ensemble and of each member that reads any of its
    # inputs (None for others)
    average_precision: dict[str, tuple[float, tuple[float | None, ...]]]


def fit_blend(members: Sequence[Classifier], films: Sequence[Film], method: str) -> Blend:
    """Fit the members' weights for every combination of inputs on labelled films.

    Args:
        members: two or more loaded bundles that know the same genres.
        films: films with genres, of split `valid`.
        method: a name in `WEIGHINGS`.

    Raises:
        UsageError: members' genres differ, or no readable film has one of the combinations of inputs.
    """
    genres = members[0].genres
    for member in members[1:]:
        if set(member.genres) != set(genres):
            other = ", ".join(sorted(set(member.genres) ^ set(genres)))
            raise UsageError(f"{member.bundle.path} and {members[0].bundle.path} differ in the genres {other}")
    weigh = WEIGHINGS[method]
    films = [film for film in films if film.genres]
    truth, known = read_labels(films, genres, label_sources(*(member.bundle.card() for member in members)))
    features = [member.features(films) for member in members]
    inputs = [name for name in ("plot", "poster") if any(name in member.bundle.config.inputs for member in members)]
    conditions = input_combinations(inputs)
    scale = np.zeros((len(members), len(conditions), len(genres)))
    shift = np.zeros((len(conditions), len(genres)))
    decisions, scores = {}, {}
    for place, condition in enumerate(conditions):
        names = condition.split("+")
        having = np.ones(len(films), dtype=bool)
        for member, seen in zip(members, features, strict=True):
            having &= seen.having(member.bundle.config.branches, names)
        if not having.any():
            what = " and ".join(f"a {name}" for name in names)
            raise UsageError(
                f"no film of split valid has {what} that can be read; the ensemble is fitted on such films: "
                f"give some with --data{' and --posters' if 'poster' in names else ''}"
            )
        labels, sure = truth[having] & known[having], known[having]

        readers: list[int] = []
        fitted: list[tuple[NDArray[np.float64], ...]] = []  # of each reader its slope, intercept and calibrated logits
        for index, (member, seen) in enumerate(zip(members, features, strict=True)):
            config = member.bundle.config
            own = "+".join(name for name in config.inputs if name in names)
            if own:
                order = [member.genres.index(genre) for genre in genres]
                logits = member.logits(seen.only(config.branches, names, having))[:, order].astype(np.float64)
                slope = np.array(config.decisions[own].slope)[order]
                intercept = np.array(config.decisions[own].intercept)[order]
                readers.append(index)
                fitted.append((slope, intercept, slope * logits + intercept))
        slopes, intercepts, calibrated = (np.stack(parts) for parts in zip(*fitted, strict=True))
        weights = weigh(calibrated, labels)
        scale[readers, place] = weights * slopes
        shift[place] = (weights * intercepts).sum(0)
        blended = (weights[:, None] * calibrated).sum(0)
        decisions[condition] = fit_decision(blended.astype(np.float32), labels, known=sure)
        together, *each = (macro_average_precision(labels, logits, sure) for logits in (blended, *calibrated))
        alone = dict(zip(readers, each, strict=True))
        scores[condition] = (together, tuple(alone.get(index) for index in range(len(members))))
    return Blend(genres, scale.astype(np.float32), shift.astype(np.float32), decisions, scores)
