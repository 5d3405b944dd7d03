"""The report: a bundle measured on labelled films, in every condition, beside a baseline."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgcs import __version__
from mmgcs.bundle import MANIFEST
from mmgcs.errors import InputError, UsageError
from mmgcs.evaluation.baseline import TfidfBaseline
from mmgcs.evaluation.conditions import CONDITIONS, Answers, Condition, Progress, Showings, reads_title
from mmgcs.evaluation.conformal import SetScores, score_sets
from mmgcs.evaluation.curves import Curves, draw_curves, micro_f1, most_confident, precision_at_recall
from mmgcs.evaluation.metrics import (
    OVERALL,
    Bools,
    Estimate,
    Measured,
    Scores,
    bootstrap_measure,
    choose,
    compare,
    summarise,
)
from mmgcs.evaluation.weakness import Group, find_groups
from mmgcs.files import sha256
from mmgcs.film import Film
from mmgcs.genres import within
from mmgcs.labels import LABEL_SOURCES, LabelSource, read_labels
from mmgcs.runtime import Classifier

COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
"""The shares of films in a report's table of abstention."""


@dataclass(frozen=True, slots=True)
class Abstention:
    """What leaving out the films that a bundle is not sure of gives.

    Attributes:
        sure: the share of films that the bundle is sure of, by the threshold stored in it.
        sure_micro_f1, unsure_micro_f1: micro-F1 of these and of the others; None where there are none.
        table: (share of films answered, most confident first; micro-F1 of those).
        decided: the share of all films' genres that the bundle does not leave open; None where it leaves none open.
        decided_micro_f1: micro-F1 of these; None where there are none.
    """

    sure: float
    sure_micro_f1: float | None
    unsure_micro_f1: float | None
    table: tuple[tuple[float, float], ...]
    decided: float | None = None
    decided_micro_f1: float | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """TF-IDF and logistic regression on the same films.

    Attributes:
        scores: with its thresholds from `valid`.
        gain: how much better the bundle is, by the overall metrics, with paired intervals.
        precision: its precision-recall curves, as in `Curves`.
    """

    scores: Scores
    gain: Mapping[str, Estimate]
    precision: dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class ConditionReport:
    """One condition's results.

    Attributes:
        name, description: of the condition.
        titled: films that were shown with a title.
        inputs: how many films were read from which inputs.
        tuned: scores with the thresholds stored in the bundle.
        half: F1 with 0.5 for a threshold, on the same calibrated probabilities.
        abstention: what leaving out unsure films gives.
        sets: what the prediction sets held; None where the bundle states none.
        baseline: None where the condition shows no plot, films lack plots, or there was nothing to fit it on.
        curves: what the figures draw.
    """

    name: str
    description: str
    titled: int
    inputs: Mapping[str, int]
    tuned: Scores
    half: Mapping[str, Estimate]
    abstention: Abstention
    sets: SetScores | None
    baseline: Baseline | None
    curves: Curves


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the films of the split.

    Attributes:
        films: films in it.
        scored: films that were scored.
        without_genres: films left out because the data gives them no genres.
        unreadable: films left out because nothing could be predicted from.
        foreign_genres: films scored whose genres are not all the bundle's; those genres were ignored.
        errors: the first few unreadable films' errors.
    """

    films: int
    scored: int
    without_genres: int
    unreadable: int
    foreign_genres: int
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """A bundle's evaluation. `to_json` gives it as plain values.

    Attributes:
        model: the bundle's name, genres and inputs, whether it reads titles, and its manifest's SHA-256.
        data: what the caller says of the data's origin.
        split: the split that was scored.
        counts: what became of its films.
        bootstrap: resamples that the 95% intervals come from.
        conditions: the results.
        groups: where the model is weak, under the first condition.
        baseline_note: what the baseline was fitted on, or why there is none.
        versions: of what computed this.
    """

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    split: str
    counts: Counts
    bootstrap: int
    conditions: tuple[ConditionReport, ...]
    groups: tuple[Group, ...]
    baseline_note: str
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """The report as values that JSON can hold; what is undefined is null."""
        return asdict(self)


def evaluate(
    classifier: Classifier,
    films: Sequence[Film],
    *,
    train: Sequence[Film] = (),
    valid: Sequence[Film] = (),
    split: str = "test",
    genres: Sequence[str] | None = None,
    sources: Mapping[str, LabelSource] = LABEL_SOURCES,
    data: Mapping[str, Any] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    progress: Progress = lambda stage, done, total: None,
) -> Report:
    """Measure a bundle.

    Args:
        classifier: the loaded bundle.
        films: the films to score; those without genres are left out and counted.
        train: films whose plots the baseline is fitted on; none for no baseline.
        valid: films that its calibration and thresholds are fitted on; without them its thresholds are 0.5.
        split: what to call `films` in the report.
        genres: score these of the bundle's genres only, to compare bundles that know different ones; None for all.
        sources: what each label source leaves unknown.
        data: what to say of their origin.
        bootstrap: resamples for the 95% intervals; 0 for none.
        seed: what they are drawn with.
        progress: told how far the work is.

    Raises:
        InputError: no film has genres and can be read.
        UsageError: the bundle does not know one of `genres`.
    """
    strange = [genre for genre in genres or () if genre not in classifier.genres]
    if strange:
        raise UsageError(f"{classifier.bundle.config.name} does not know {', '.join(strange)}; leave them out")
    scored_genres = tuple(genres or classifier.genres)
    labelled = [film for film in films if film.genres]
    if not labelled:
        raise InputError(f"none of the {len(films)} films of {split} has genres to compare with; give labelled films")
    showings = Showings(classifier, labelled, progress)
    scored = [film for film, error in zip(labelled, showings.errors, strict=True) if not error]
    if not scored:
        first = next(error for error in showings.errors if error)
        raise InputError(f"none of the {len(labelled)} labelled films of {split} can be read; the first: {first}")
    baseline = _FittedBaseline(train, valid, classifier, scored_genres, sources, progress)
    scorer = _Scorer(classifier, labelled, scored_genres, sources, baseline, bootstrap, seed)
    applying = [condition for condition in CONDITIONS if showings.applies(condition)]
    results: list[ConditionReport] = []
    groups: tuple[Group, ...] = ()
    for index, condition in enumerate(applying):
        progress("scoring", index, len(applying))
        answers = showings.answer(condition)
        result, truth, answers = scorer.report(condition, answers)
        results.append(result)
        if index == 0:
            shown = [labelled[row] for row in answers.rows]
            groups = find_groups(shown, truth, answers, result.tuned, bootstrap=bootstrap, seed=seed)
    progress("scoring", len(applying), len(applying))
    return Report(
        model=_describe(classifier),
        data=dict(data or {}),
        split=split,
        counts=Counts(
            films=len(films),
            scored=len(scored),
            without_genres=len(films) - len(labelled),
            unreadable=len(labelled) - len(scored),
            foreign_genres=sum(
                len(within(film.genres or (), classifier.genres)) < len(film.genres or ()) for film in scored
            ),
            errors=tuple(error for error in showings.errors if error)[:5],
        ),
        bootstrap=bootstrap,
        conditions=tuple(results),
        groups=groups,
        baseline_note=baseline.note,
        versions=_versions(),
    )


class _Scorer:
    """Turns answers into a condition's report."""

    def __init__(
        self,
        classifier: Classifier,
        films: Sequence[Film],
        genres: Sequence[str],
        sources: Mapping[str, LabelSource],
        baseline: _FittedBaseline,
        bootstrap: int,
        seed: int,
    ) -> None:
        self._genres = genres
        self._columns = [classifier.genres.index(genre) for genre in genres]
        self._films = films
        self._truth, self._known = read_labels(films, genres, sources)
        self._baseline_model = baseline
        self._draws = {"bootstrap": bootstrap, "seed": seed}
        self._titled = reads_title(classifier.bundle.config)

    def report(self, condition: Condition, answers: Answers) -> tuple[ConditionReport, Bools, Answers]:
        """Return the report of a condition, with the truth (answered, genres) and the answers it was measured on."""
        films = [self._films[row] for row in answers.rows]
        known = self._known[answers.rows]
        truth = self._truth[answers.rows] & known
        answers = answers.scored(self._columns, known)
        chosen = answers.chosen
        title = condition.title and self._titled
        measured = bootstrap_measure(truth, answers.probabilities, chosen, **self._draws)
        half = bootstrap_measure(truth, None, choose(answers.probabilities, 0.5), **self._draws)
        return (
            ConditionReport(
                name=condition.name,
                description=condition.description,
                titled=sum(
                    bool(film.title) and "plot" in read for film, read in zip(films, answers.inputs, strict=True)
                )
                if title
                else 0,
                inputs=dict(sorted(Counter(answers.inputs).items())),
                tuned=summarise(measured, truth, answers.probabilities, chosen, self._genres),
                half={name: half.estimate(name) for name in OVERALL if name in half.values},
                abstention=_abstention(truth, chosen, answers),
                sets=None if answers.possible is None else score_sets(answers.possible, truth),
                baseline=self._baseline(films, truth, known, measured, title=title, shown=answers.inputs),
                curves=draw_curves(truth, answers.probabilities, chosen, answers.confidence, self._genres),
            ),
            truth,
            answers,
        )

    def _baseline(
        self, films: Sequence[Film], truth: Bools, known: Bools, ours: Measured, *, title: bool, shown: Sequence[str]
    ) -> Baseline | None:
        baseline = self._baseline_model.get() if all("plot" in read for read in shown) else None
        if baseline is None:
            return None
        if not title:
            films = [replace(film, title=None) for film in films]
        probabilities = np.where(known, baseline.probabilities(films), np.nan)
        chosen = choose(probabilities, baseline.thresholds)
        theirs = bootstrap_measure(truth, probabilities, chosen, **self._draws)
        return Baseline(
            scores=summarise(theirs, truth, probabilities, chosen, self._genres),
            gain=compare(ours, theirs),
            precision={
                genre: precision_at_recall(truth[:, index], probabilities[:, index])
                for index, genre in enumerate(self._genres)
            },
        )


class _FittedBaseline:
    """The baseline, fitted when it is first asked for; it reads titles if the bundle does."""

    def __init__(
        self,
        train: Sequence[Film],
        valid: Sequence[Film],
        classifier: Classifier,
        genres: Sequence[str],
        sources: Mapping[str, LabelSource],
        progress: Progress,
    ) -> None:
        self._train, self._valid = ([film for film in films if film.plot and film.genres] for films in (train, valid))
        self._genres = genres
        self._sources = sources
        self._use_title = reads_title(classifier.bundle.config)
        self._progress = progress
        self._fitted: TfidfBaseline | None = None
        self.note = f"TF-IDF and logistic regression, fitted in this run on {len(self._train):,} plots of train"
        self.note += (
            f"; calibration and thresholds from {len(self._valid):,} plots of valid"
            if self._valid
            else "; thresholds of 0.5, as there are no labelled plots in valid"
        )
        if not self._train:
            self.note = "no baseline: there are no labelled plots of train to fit it on, or it was not asked for"

    def get(self) -> TfidfBaseline | None:
        if not self._train:
            return None
        if self._fitted is None:
            self._progress("fitting the baseline", 0, 1)
            labels = read_labels(self._train, self._genres, self._sources)
            self._fitted = TfidfBaseline(use_title=self._use_title).fit(self._train, *labels)
            if self._valid:
                truth, _ = read_labels(self._valid, self._genres, self._sources)
                self._fitted.calibrate(self._valid, truth)
            self._progress("fitting the baseline", 1, 1)
        return self._fitted


def _abstention(truth: Bools, chosen: Bools, answers: Answers) -> Abstention:
    def f1_of(rows: NDArray[np.bool_]) -> float | None:
        return micro_f1(truth, chosen, rows) if rows.any() else None

    decided = answers.decided
    return Abstention(
        sure=float(answers.sure.mean()),
        sure_micro_f1=f1_of(answers.sure),
        unsure_micro_f1=f1_of(~answers.sure),
        table=tuple((share, micro_f1(truth, chosen, most_confident(answers.confidence, share))) for share in COVERAGES),
        decided=None if decided is None else float(decided.mean()),
        decided_micro_f1=None if decided is None else f1_of(decided),
    )


def _describe(classifier: Classifier) -> dict[str, Any]:
    config = classifier.bundle.config
    return {
        "name": config.name,
        "genres": list(config.genres),
        "inputs": list(config.inputs),
        "reads_title": reads_title(config),
        "encoders": {branch.name: branch.encoder for branch in config.branches},
        "manifest_sha256": sha256(classifier.bundle.path / MANIFEST),
    }


def _versions() -> dict[str, str]:
    import onnxruntime

    return {
        "mmgcs": __version__,
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
    }
