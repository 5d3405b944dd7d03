"""The classifier: a bundle, loaded once, that turns films into predictions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from mmgcs.bundle import DEFAULT_BUNDLE, Branch, Bundle, Decision
from mmgcs.errors import InputError
from mmgcs.film import Film, Prediction
from mmgcs.machine import cores
from mmgcs.preprocess import PlotTokens, Prepared, clean_text
from mmgcs.runtime.branch import LoadedBranch, open_session, run_graph
from mmgcs.runtime.domain import Domain

STRANGE = "the {} is unlike those of the films that the model learned from, so the answer is called not sure"
"""The warning of an input that may be no film's."""

BATCH = 32
"""Films a graph is run on at once: past this two cores gain nothing and memory grows."""

BATCHES = {"poster": 8}
"""The same for inputs that want another number: 32 posters take 720 MB of memory and a half more time each than 8."""


def load(path: str | Path | None = None, *, threads: int | None = None, spin: bool = True) -> Classifier:
    """Load a bundle: the one in the folder `path`, or the default one.

    >>> import mmgcs
    >>> "Horror" in mmgcs.load().predict(plot="A vampire count preys on a sleepy village at night.").genres
    True

    Args:
        path: a bundle's folder.
        threads: threads a graph is computed on; None for one a core.
        spin: whether idle threads of a graph wait for work by turning in circles. That answers soonest on a machine
            that does nothing else; without it there is more left for whatever shares the cores.

    Raises:
        UsageError: there is no bundle at `path`.
        BundleError: the bundle is damaged or of a newer format.
    """
    return Classifier(Bundle(Path(path) if path is not None else DEFAULT_BUNDLE), threads=threads, spin=spin)


@dataclass(slots=True)
class Features:
    """What the branches made of some films, before fusion.

    Attributes:
        values: for each branch, (films, width) float32; zeros where the film lacks the input.
        present: (films, branches) float32, 1 where the branch read its input.
        warnings: for each film, what was odd about its input.
        errors: for each film, why its inputs could not be read, joined; "" where all could be.
        strange: (films, branches) whether an input is unlike those of films; None where that was not looked at.
    """

    values: dict[str, NDArray[np.float32]]
    present: NDArray[np.float32]
    warnings: list[tuple[str, ...]]
    errors: list[str]
    strange: NDArray[np.bool_] | None = None

    def having(self, branches: Sequence[Branch], inputs: Collection[str]) -> NDArray[np.bool_]:
        """Which films (films,) have all of `inputs`, read by every one of the bundle's `branches` that reads them."""
        return np.asarray((self.present[:, _reading(branches, inputs)] > 0).all(axis=1), dtype=bool)

    def only(
        self, branches: Sequence[Branch], inputs: Collection[str], films: NDArray[np.bool_] | NDArray[np.int64]
    ) -> Features:
        """The features of `films`, a mask or rows, as if they had none of the inputs but `inputs`."""
        keep = _reading(branches, inputs)
        rows = np.arange(len(self.present))[films]
        return Features(
            values={
                branch.name: self.values[branch.name][rows] * np.float32(kept)
                for branch, kept in zip(branches, keep, strict=True)
            },
            present=self.present[rows] * keep.astype(np.float32),
            warnings=[self.warnings[row] for row in rows],
            errors=[self.errors[row] for row in rows],
            strange=None if self.strange is None else self.strange[rows] & keep,
        )


def _reading(branches: Sequence[Branch], inputs: Collection[str]) -> NDArray[np.bool_]:
    return np.array([branch.input in inputs for branch in branches], dtype=bool)


class Classifier:
    """A loaded bundle. Safe to share between threads.

    Attributes:
        bundle: the bundle.
        genres: its genres, in the order of every array.
    """

    def __init__(self, bundle: Bundle, *, threads: int | None = None, spin: bool = True) -> None:
        self.bundle = bundle
        self.genres = bundle.config.genres
        self._used = False
        self._branches = [LoadedBranch(bundle, branch, threads or cores(), spin) for branch in bundle.config.branches]

    @cached_property
    def _fusion(self) -> ort.InferenceSession:
        return open_session(self.bundle.read(self.bundle.config.fusion), self.bundle.config.fusion, 1)

    @cached_property
    def _domain(self) -> Domain:
        return Domain.of(self.bundle)

    @cached_property
    def _rules(self) -> dict[str, _Rule]:
        return {inputs: _Rule.of(decision) for inputs, decision in self.bundle.config.decisions.items()}

    def predict(
        self, plot: str | None = None, poster: str | Path | bytes | None = None, *, title: str | None = None
    ) -> Prediction:
        """Predict one film's genres from its plot, its poster, or both.

        Args:
            plot: the plot in prose.
            poster: a picture file, or its bytes.
            title: the title, which helps beside a plot.

        Raises:
            InputError: there is neither, or what there is cannot be read.
        """
        film = Film(title=title, plot=plot, poster=Path(poster) if isinstance(poster, str) else poster)
        if not self._used:
            self._used = True
            self._open(film)
        prediction = self.predict_batch([film])[0]
        if prediction.error is not None:
            raise InputError(prediction.error)
        return prediction

    def _open(self, film: Film) -> None:
        """Open all that a film needs, its large graphs beside the rest."""
        for branch in self._branches:
            if getattr(film, branch.spec.input) is not None:
                Thread(target=branch.try_open, name="mmgcs-open", daemon=True).start()
                _ = branch.preprocessor
        _ = self._fusion, self._domain

    def predict_batch(self, films: Sequence[Film]) -> list[Prediction]:
        """Predict many films. A film that cannot be predicted gets a prediction with an `error`; none raises."""
        features = self.features(films)
        return self.decide(self.logits(features), features)

    def prepare(self, films: Sequence[Film]) -> list[PreparedFilm]:
        """Read and preprocess films' inputs: everything that needs no graph. Never raises for a bad film."""
        return [self._prepare_one(film) for film in films]

    def _prepare_one(self, film: Film) -> PreparedFilm:
        problem = film.problem or _of_another_type(film)
        if problem is not None:
            return PreparedFilm((), film.warnings, problem)
        given = {
            "plot": film.plot is not None and bool(film.plot.strip()) and bool(clean_text(film.plot)),
            "poster": film.poster is not None,
        }
        parts: list[Prepared | None] = []
        warnings = list(film.warnings)
        failed: dict[str, str] = {}
        for branch in self._branches:
            part = None
            if given[branch.spec.input] and branch.spec.input not in failed:
                try:
                    part = branch.preprocessor.prepare([film])[0]
                    warnings.extend(part.warnings)
                except InputError as error:
                    failed[branch.spec.input] = str(error)
            parts.append(part)
        if any(part is not None for part in parts):
            warnings.extend(failed.values())
            return PreparedFilm(tuple(parts), tuple(dict.fromkeys(warnings)), None)
        if failed:
            return PreparedFilm((), tuple(warnings), "; ".join(failed.values()))
        return PreparedFilm((), tuple(warnings), self._nothing_to_read(film))

    def _nothing_to_read(self, film: Film) -> str:
        if film.plot is not None and film.poster is None and "plot" in self.bundle.config.inputs:
            return "the plot is empty; give a plot in words, or a poster"
        wanted = " or ".join(f"a {name}" for name in self.bundle.config.inputs)
        return f"there is nothing to predict from: this model reads {wanted}; give one"

    def features(self, films: Sequence[Film]) -> Features:
        """Run the branches' graphs on films' inputs. Plots are sorted by length, so that padding costs little."""
        return self.features_of(self.prepare(films))

    def features_of(self, prepared: Sequence[PreparedFilm], *, check: bool = True) -> Features:
        """Run the branches' graphs on prepared films.

        Args:
            prepared: the films.
            check: also tell which inputs are unlike those of films.
        """
        values = {
            branch.spec.name: np.zeros((len(prepared), branch.spec.width), dtype=np.float32)
            for branch in self._branches
        }
        present = np.zeros((len(prepared), len(self._branches)), dtype=np.float32)
        strange = np.zeros(present.shape, dtype=bool)
        for column, branch in enumerate(self._branches):
            rows = [(row, film.parts[column]) for row, film in enumerate(prepared) if film.parts]
            ready = sorted(((row, part) for row, part in rows if part is not None), key=lambda pair: pair[1].length)
            size = BATCHES.get(branch.spec.input, BATCH)
            for start in range(0, len(ready), size):
                chunk = ready[start : start + size]
                indices = [row for row, _ in chunk]
                values[branch.spec.name][indices] = branch.run([part for _, part in chunk])
                present[indices, column] = 1.0
            if check and ready:
                # All at once: a small product between two runs of a graph waits for that graph's idle threads.
                indices = [row for row, _ in ready]
                seen = values[branch.spec.name][indices]
                strange[indices, column] = self._domain.strange(branch.spec.name, seen, [part for _, part in ready])
        warnings, errors = [film.warnings for film in prepared], [film.error or "" for film in prepared]
        return Features(values, present, warnings, errors, strange if check else None)

    def attention(self, film: PreparedFilm) -> list[tuple[str, float]]:
        """The words of a prepared film's plot with the attention that the encoder paid them; none without attention."""
        for branch, part in zip(self._branches, film.parts, strict=False):
            if part is None or branch.spec.input != "plot" or not isinstance(branch.preprocessor, PlotTokens):
                continue
            if any(output.name == "attention" for output in branch.session.get_outputs()):
                (weights,) = branch.session.run(["attention"], branch.preprocessor.collate([part]))
                return list(zip(branch.preprocessor.words(part), map(float, weights[0]), strict=False))
        return []

    def logits(self, features: Features) -> NDArray[np.float32]:
        """Run the fusion graph. Returns uncalibrated logits (films, genres) float32."""
        if not len(features.present):
            return np.zeros((0, len(self.genres)), dtype=np.float32)
        return run_graph(self._fusion, "logits", {**features.values, "present": features.present}, len(self.genres))

    def probabilities(self, logits: NDArray[np.float32], inputs: str) -> NDArray[np.float32]:
        """Calibrated probabilities (films, genres) of films whose inputs are `inputs`, such as "plot+poster"."""
        return sigmoid(self._rules[inputs].odds(logits))

    def decide(self, logits: NDArray[np.float32], features: Features) -> list[Prediction]:
        """Turn logits into predictions with the calibration and thresholds of each film's inputs."""
        predictions = []
        for row in range(len(logits)):
            if features.errors[row]:
                predictions.append(Prediction(error=features.errors[row], warnings=features.warnings[row]))
                continue
            inputs = self._inputs_of(features.present[row])
            name = "+".join(inputs)
            decision = self.bundle.config.decisions[name]
            rule = self._rules[name]
            odds = rule.odds(logits[row])
            probabilities = sigmoid(odds)
            order: list[int] = np.argsort(-probabilities, kind="stable").tolist()
            above = (probabilities >= rule.thresholds).tolist()
            chosen = [index for index in order if above[index]]
            possible = []
            if decision.possible is not None:
                # A chosen genre is possible whatever its probability; that can only make the set cover more.
                likely = (probabilities >= decision.possible).tolist()
                possible = [index for index in order if above[index] or likely[index]]
            near = []
            if decision.margin is not None:
                close = (np.abs(odds - rule.cuts) < decision.margin).tolist()
                near = [index for index in order if close[index]]
            confidence = expected_f1(probabilities, chosen)
            strange = self._strange(features, row)
            predictions.append(
                Prediction(
                    genres=tuple(self.genres[index] for index in chosen),
                    # Six digits are all that float32 holds; rounding keeps outputs equal on every machine.
                    probabilities={
                        genre: round(p, 6) for genre, p in zip(self.genres, probabilities.tolist(), strict=True)
                    },
                    inputs=inputs,
                    confidence=round(confidence, 6),
                    sure=confidence >= decision.confidence and not strange,
                    possible=tuple(self.genres[index] for index in possible),
                    undecided=tuple(self.genres[index] for index in near),
                    strange=strange,
                    warnings=(*features.warnings[row], *(STRANGE.format(name) for name in strange)),
                )
            )
        return predictions

    def _strange(self, features: Features, row: int) -> tuple[str, ...]:
        """The inputs of a film that are unlike those of films."""
        if features.strange is None:
            return ()
        return self._inputs_of(features.present[row] * features.strange[row])

    def _inputs_of(self, present: NDArray[np.float32]) -> tuple[str, ...]:
        read = {branch.spec.input for branch, there in zip(self._branches, present, strict=True) if there}
        return tuple(name for name in self.bundle.config.inputs if name in read)


@dataclass(frozen=True, slots=True)
class _Rule:
    """A decision as arrays (genres,); `cuts` are the thresholds as log-odds."""

    slope: NDArray[np.float32]
    intercept: NDArray[np.float32]
    thresholds: NDArray[np.float32]
    cuts: NDArray[np.float64]

    @classmethod
    def of(cls, decision: Decision) -> _Rule:
        thresholds = np.asarray(decision.thresholds, dtype=np.float32)
        slope = np.asarray(decision.slope, dtype=np.float32)
        return cls(slope, np.asarray(decision.intercept, dtype=np.float32), thresholds, log_odds(thresholds))

    def odds(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrated log-odds of logits (…, genres)."""
        return logits * self.slope + self.intercept


@dataclass(frozen=True, slots=True)
class PreparedFilm:
    """One film's preprocessed inputs.

    Attributes:
        parts: for each branch its input, None where the film lacks it; empty where there is an error.
        warnings: what was odd about the input.
        error: why nothing can be predicted; None where something can.
    """

    parts: tuple[Prepared | None, ...]
    warnings: tuple[str, ...]
    error: str | None


def _of_another_type(film: Film) -> str | None:
    """Why a film that a program made cannot be read: Python holds nobody to a type."""
    for name in ("plot", "title"):
        value = getattr(film, name)
        if value is not None and not isinstance(value, str):
            return f"the {name} is of the type {type(value).__name__}; give a text (str)"
    if film.poster is not None and not isinstance(film.poster, Path | bytes | bytearray | memoryview):
        return f"the poster is of the type {type(film.poster).__name__}; give a picture file's path, or its bytes"
    return None


def sigmoid(logits: NDArray[Any]) -> NDArray[np.float32]:
    """The logistic function, without overflow."""
    result: NDArray[np.float32] = (0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits, dtype=np.float32)))).astype(np.float32)
    return result


def expected_f1(probabilities: NDArray[np.float32], chosen: Iterable[int]) -> float:
    """How good the chosen genres are by the model's own probabilities: 2 · E[hits] / (chosen + E[true genres]).

    It is the plug-in estimate of F1 (Ye et al. 2012), 0 where nothing is chosen.
    """
    indices = list(chosen)
    if not indices:
        return 0.0
    return float(2.0 * probabilities[indices].sum() / (len(indices) + probabilities.sum()))


def log_odds(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """The logarithm of p / (1 - p), for p not nearer to 0 or 1 than a millionth; of the same shape."""
    clipped = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-6, 1 - 1e-6)
    result: NDArray[np.float64] = np.log(clipped) - np.log1p(-clipped)
    return result


def margins(probabilities: NDArray[Any], thresholds: NDArray[Any]) -> NDArray[np.float64]:
    """How far probabilities (…, genres) are from their thresholds, in log-odds (…, genres)."""
    return np.abs(log_odds(probabilities) - log_odds(thresholds))


def without(film: Film, hidden: str) -> Film:
    """The film with its "plot" (and title) or its "poster" hidden."""
    return replace(film, poster=None) if hidden == "poster" else replace(film, plot=None, title=None)
