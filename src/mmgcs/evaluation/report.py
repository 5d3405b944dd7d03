"""The report: a bundle measured on labelled films, with all inputs and with some hidden, compared with a baseline.

`evaluate` makes it; `mmgcs.evaluation.render` writes it as JSON, Markdown and HTML.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from mmgcs.bundle import MANIFEST
from mmgcs.errors import InputError, UsageError
from mmgcs.evaluation.baseline import TfidfBaseline
from mmgcs.evaluation.calibration import STATED
from mmgcs.evaluation.conditions import CONDITIONS, Answers, Condition, ShownFilms, reads_title
from mmgcs.evaluation.groups import Group, find_columns, find_groups
from mmgcs.evaluation.metrics import Bools, Estimate, Measured, Scores, micro_f1, reliability
from mmgcs.files import sha256
from mmgcs.film import Film
from mmgcs.genres import LABEL_SETS, within
from mmgcs.labels import LABEL_SOURCES, LabelSource, read_labels
from mmgcs.progress import Update, no_progress
from mmgcs.runtime import Classifier
from mmgcs.version import __version__
from mmgcs.wording import did_you_mean


@dataclass(frozen=True, slots=True)
class Baseline:
    """TF-IDF and logistic regression on the same films."""

    scores: Scores  # at its own thresholds
    gain: Mapping[str, Estimate]  # the bundle's overall metrics less its own, with paired intervals
    precision: Mapping[str, list[float]]  # its precision-recall curves, like those of the bundle


@dataclass(frozen=True, slots=True)
class ConditionReport:
    """The results under one condition.

    Attributes:
        name, description: of the condition.
        titled: films that were shown with a title.
        inputs: how many films were read from which inputs.
        tuned: scores with the thresholds stored in the bundle.
        half: F1 with a threshold of 0.5 on the same calibrated probabilities.
        abstention: the effect of not answering. `sure` is the share of films above the confidence that the bundle
            requires, `sure_micro_f1` and `unsure_micro_f1` the scores of these and of the other films. `table` has
            pairs of a share of films, most confident first, and their micro-F1. `decided` is the share of genres that
            are not undecided, `decided_micro_f1` their score. Scores of no films are None.
        sets: the scores of the prediction sets (see `score_sets`); None if the bundle states none.
        baseline: None if the condition shows no plot, films lack plots, or there was nothing to fit it on.
        curves: the data of the figures. For each genre `precision` at recalls of 1%, 2%, … 100% (empty if no film has
            the genre) and `reliability`; `coverage`, like the table of abstention with more points; and `confusions`,
            [missed][chosen] numbers of films whose genre `missed` was not predicted while `chosen` was, wrongly.
    """

    name: str
    description: str
    titled: int
    inputs: Mapping[str, int]
    tuned: Scores
    half: Mapping[str, Estimate]
    abstention: Mapping[str, Any]
    sets: Mapping[str, float] | None
    baseline: Baseline | None
    curves: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """A bundle's evaluation.

    Attributes:
        model: the bundle's name, genres and inputs, whether it reads titles, and its manifest's SHA-256.
        data: the origin of the data, as given by the caller.
        split: the split that was scored.
        counts: what became of its `films`: how many were `scored`, or left out as `without_genres` or `unreadable`
            (`errors` has the first few reasons), and how many scored ones have `foreign_genres` that the bundle does
            not know; those genres were ignored.
        bootstrap: the number of resamples behind the 95% intervals.
        conditions: the results.
        by: the columns of the table that films were grouped by.
        groups: scores of groups of films, under the first condition.
        baseline_note: what the baseline was fitted on, or why there is none.
        versions: of the software that computed the report.
    """

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    split: str
    counts: Mapping[str, Any]
    bootstrap: int
    conditions: tuple[ConditionReport, ...]
    by: tuple[str, ...]
    groups: tuple[Group, ...]
    baseline_note: str
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values; undefined scores are None."""
        return asdict(self)


def evaluate(
    classifier: Classifier,
    films: Sequence[Film],
    *,
    train: Sequence[Film] = (),
    valid: Sequence[Film] = (),
    split: str = "test",
    genres: Sequence[str] | None = None,
    by: Sequence[str] | None = None,
    sources: Mapping[str, LabelSource] = LABEL_SOURCES,
    data: Mapping[str, Any] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    progress: Update = no_progress,
) -> Report:
    """Measure a bundle.

    Args:
        classifier: the loaded bundle.
        films: the films to score; those without genres are counted and left out.
        train: films to fit the baseline on; none for no baseline.
        valid: films to fit its calibration and thresholds on; without them its thresholds are 0.5.
        split: what to call `films` in the report.
        genres: score only these of the bundle's genres, to compare bundles with different genres; None for all.
        by: columns of the films' table; each value with twenty films or more is scored by itself. None for `cohort` and
            `language` if the table has them.
        sources: the label sources, which define which labels are unknown.
        data: the origin of the films, for the report.
        bootstrap: resamples for the 95% intervals; 0 for none.
        seed: the seed of the resamples.
        progress: called with the progress.

    Raises:
        InputError: no film has genres and can be read.
        UsageError: the bundle does not know one of `genres`, or no film has a column of `by`.
    """
    config = classifier.bundle.config
    unknown = [genre for genre in genres or () if genre not in classifier.genres]
    if unknown:
        hint = did_you_mean(unknown[0], [*classifier.genres, *LABEL_SETS]) or "leave them out"
        raise UsageError(f"the model {config.name} has no genre {', '.join(unknown)}; {hint}")
    genres = tuple(genres or classifier.genres)
    labelled = [film for film in films if film.genres]
    if not labelled:
        raise InputError(f"none of the {len(films)} films of {split} has genres to compare with; give labelled films")
    columns = find_columns(labelled, by)
    shown = ShownFilms(classifier, labelled, progress)
    errors = [error for error in shown.errors if error]
    scored = [film for film, error in zip(labelled, shown.errors, strict=True) if not error]
    if not scored:
        raise InputError(f"none of the {len(labelled)} labelled films of {split} can be read; the first: {errors[0]}")
    titled = reads_title(config)
    baseline: TfidfBaseline | None = None
    note = "no baseline: the model reads no plots"
    if "plot" in config.inputs:
        baseline, note = _fit_baseline(train, valid, genres, sources, titled, progress)
    truth, known = read_labels(labelled, genres, sources)
    draws = {"bootstrap": bootstrap, "seed": seed}
    positions = [classifier.genres.index(genre) for genre in genres]
    applied = [condition for condition in CONDITIONS if shown.applies(condition)]
    reports: list[ConditionReport] = []
    groups: tuple[Group, ...] = ()
    for index, condition in enumerate(applied):
        progress("scoring", index, len(applied))
        answers = shown.answer(condition)
        rows = answers.rows
        answers = answers.of_genres(positions, known[rows])
        there = truth[rows] & known[rows]
        seen = [labelled[row] for row in rows]
        if not (condition.title and titled):
            seen = [replace(film, title=None) for film in seen]
        reports.append(_score(condition, seen, there, answers, genres, baseline, draws))
        if index == 0:
            groups = find_groups(seen, there, answers, reports[0].tuned, columns, **draws)
    progress("scoring", len(applied), len(applied))
    foreign = sum(len(within(film.genres or (), classifier.genres)) < len(film.genres or ()) for film in scored)
    return Report(
        model={
            "name": config.name,
            "genres": list(config.genres),
            "inputs": list(config.inputs),
            "reads_title": titled,
            "encoders": {branch.name: branch.encoder for branch in config.branches},
            "manifest_sha256": sha256(classifier.bundle.path / MANIFEST),
        },
        data=dict(data or {}),
        split=split,
        counts={
            "films": len(films),
            "scored": len(scored),
            "without_genres": len(films) - len(labelled),
            "unreadable": len(errors),
            "foreign_genres": foreign,
            "errors": errors[:5],
        },
        bootstrap=bootstrap,
        conditions=tuple(reports),
        by=columns,
        groups=groups,
        baseline_note=note,
        versions={
            "mmgcs": __version__,
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
            "numpy": np.__version__,
        },
    )


def _score(
    condition: Condition,
    films: Sequence[Film],
    truth: Bools,
    answers: Answers,
    genres: Sequence[str],
    model: TfidfBaseline | None,
    draws: Mapping[str, int],
) -> ConditionReport:
    """Return the report of one condition; films have no title if titles were hidden."""
    ours, chosen, decided = answers.probabilities, answers.chosen, answers.decided
    measured = Measured(truth, ours, chosen, **draws)
    baseline = None
    if model is not None and all("plot" in read for read in answers.inputs):
        theirs = np.where(np.isnan(ours), np.nan, model.probabilities(films))
        other = Measured(truth, theirs, theirs >= model.thresholds, **draws)
        baseline = Baseline(other.scores(genres), measured.gain(other), _precision_curves(truth, theirs, genres))

    def f1_of(rows: NDArray[np.bool_]) -> float | None:
        return micro_f1(truth, chosen, rows) if rows.any() else None

    return ConditionReport(
        name=condition.name,
        description=condition.description,
        titled=sum(bool(film.title) and "plot" in read for film, read in zip(films, answers.inputs, strict=True)),
        inputs=dict(sorted(Counter(answers.inputs).items())),
        tuned=measured.scores(genres),
        half=Measured(truth, None, ours >= 0.5, **draws).estimates(),
        abstention={
            "sure": float(answers.sure.mean()),
            "sure_micro_f1": f1_of(answers.sure),
            "unsure_micro_f1": f1_of(~answers.sure),
            "table": _coverage(truth, chosen, answers.confidence, (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)),
            "decided": None if decided is None else float(decided.mean()),
            "decided_micro_f1": None if decided is None else f1_of(decided),
        },
        sets=None if answers.possible is None else score_sets(answers.possible, truth),
        baseline=baseline,
        curves={
            "precision": _precision_curves(truth, ours, genres),
            "reliability": {genre: reliability(truth[:, g], ours[:, g]) for g, genre in enumerate(genres)},
            "coverage": _coverage(truth, chosen, answers.confidence, np.linspace(0.1, 1.0, 46)),
            "confusions": ((truth & ~chosen).T.astype(np.int64) @ (chosen & ~truth).astype(np.int64)).tolist(),
        },
    )


def _fit_baseline(
    train: Sequence[Film],
    valid: Sequence[Film],
    genres: Sequence[str],
    sources: Mapping[str, LabelSource],
    use_title: bool,
    progress: Update,
) -> tuple[TfidfBaseline | None, str]:
    """Return the fitted baseline, and a note on what it was fitted on."""
    train, valid = ([film for film in films if film.plot and film.genres] for films in (train, valid))
    if not train:
        return None, "no baseline: there are no labelled plots of train to fit it on, or it was not asked for"
    progress("fitting the baseline", 0, 1)
    baseline = TfidfBaseline(use_title=use_title).fit(train, *read_labels(train, genres, sources))
    note = f"TF-IDF and logistic regression, fitted in this run on {len(train):,} plots of train; "
    if valid:
        baseline.calibrate(valid, *read_labels(valid, genres, sources))
        note += f"calibration and thresholds from {len(valid):,} plots of valid"
    else:
        note += "thresholds of 0.5, as there are no labelled plots in valid"
    progress("fitting the baseline", 1, 1)
    return baseline, note


def _coverage(
    truth: Bools, chosen: Bools, confidence: NDArray[Any], shares: Iterable[float]
) -> tuple[tuple[float, float], ...]:
    """Return (share of films answered, most confident first; micro-F1 of those) for each of `shares`."""
    order = np.argsort(-confidence, kind="stable")
    return tuple(
        (float(share), micro_f1(truth, chosen, order[: max(int(np.ceil(share * len(order) - 1e-9)), 1)]))
        for share in shares
    )


def _precision_curves(truth: Bools, scores: NDArray[Any], genres: Sequence[str]) -> dict[str, list[float]]:
    """Return the precision of each genre at the highest threshold that reaches each of 100 recalls."""
    from sklearn.metrics import precision_recall_curve

    curves: dict[str, list[float]] = {}
    for index, genre in enumerate(genres):
        curves[genre] = []
        known = ~np.isnan(scores[:, index])
        if truth[known, index].any():
            precision, recall, _ = precision_recall_curve(truth[known, index], scores[known, index])
            # 1e-9: rounding must not make a recall of 0.07 miss 7 films of 100.
            reached = np.searchsorted(recall[::-1], np.linspace(0.01, 1.0, 100) - 1e-9)
            curves[genre] = [round(float(value), 4) for value in precision[::-1][reached]]
    return curves


def score_sets(sets: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, float]:
    """Score prediction sets (films, genres) against the truth (films, genres).

    Returns:
        `stated`, the share of films that they were fitted to cover; `covered`, the share of films with all their true
        genres in the set; `recall`, the share of all true genres that were in it; `size`, the mean size of a set.
    """
    return {
        "stated": STATED,
        "covered": float((sets | ~truth).all(axis=1).mean()),
        "recall": float((sets & truth).sum() / max(1, truth.sum())),
        "size": float(sets.sum(axis=1).mean()),
    }
