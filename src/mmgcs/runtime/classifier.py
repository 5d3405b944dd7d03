"""The classifier: a loaded bundle that turns films into predictions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from mmgcs.bundle import Branch, Bundle, bundle_folder
from mmgcs.errors import InputError
from mmgcs.film import Film, Prediction, films_of
from mmgcs.machine import cores
from mmgcs.preprocess import (
    PlotTokens,
    Prepared,
    clean_text,
    identify_language,
    is_placeholder,
    odd_plot,
    placeholder_warning,
)
from mmgcs.runtime.decisions import DecisionRule
from mmgcs.runtime.domain import PictureDetector
from mmgcs.runtime.graph import LoadedBranch, open_session, run_graph

STRANGE = "the {} is unlike those of the films that the model learned from, so the answer is marked as not sure"
"""The warning about an input that may not belong to a film."""

BATCH = 32
"""Films per run of a graph. More cost memory, and are no faster on two cores."""

BATCHES = {"poster": 8}
"""Exceptions for some inputs: in batches of 32, posters take 720 MB of memory, and each takes half as long again."""


CHUNK = 128
"""Films that `Classifier.features` prepares at once: pixels take far more memory than features."""


def load(path: str | Path | None = None, *, threads: int | None = None, spin: bool = True) -> Classifier:
    """Load a bundle.

    >>> import mmgcs
    >>> "Horror" in mmgcs.load().predict(plot="A vampire count preys on a sleepy village at night.").genres
    True

    Args:
        path: a bundle's folder; None or "default" for the default bundle.
        threads: threads to compute a graph on; None for one per core.
        spin: let a graph's idle threads wait in a busy loop, which is fastest if the machine does nothing else.
            Without it, other programs get more of the cores.

    Raises:
        UsageError: there is no bundle at `path`.
        BundleError: the bundle is damaged or of a newer format.
    """
    return Classifier(Bundle(bundle_folder(path)), threads=threads, spin=spin)


@dataclass(frozen=True, slots=True)
class PreparedFilm:
    """One film's preprocessed inputs."""

    # each branch's input, None if the film lacks it; empty if there is an error
    parts: tuple[Prepared | None, ...]
    warnings: tuple[str, ...]  # what is odd about the input
    error: str | None  # why nothing can be predicted; None if something can
    odd_plot: bool = False  # True if the plot is too short, or in a language that the model has not learned


@dataclass(slots=True)
class Features:
    """The branches' features of some films, before fusion."""

    # each branch's (films, width) float32; zeros for films that lack the input
    values: dict[str, NDArray[np.float32]]
    present: NDArray[np.float32]  # (films, branches) float32, 1 if the branch read its input
    warnings: list[tuple[str, ...]]  # for each film, what is odd about its input
    errors: list[str]  # for each film, why its inputs could not be read, joined; "" if all could be
    # (films, branches), True for inputs unlike those of films; None if not checked
    strange: NDArray[np.bool_] | None = None

    @classmethod
    def concatenate(cls, parts: Sequence[Features]) -> Features:
        """Return the features of all films, in order; `strange` must not be None."""
        return cls(
            values={name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values},
            present=np.concatenate([part.present for part in parts]),
            warnings=[warning for part in parts for warning in part.warnings],
            errors=[error for part in parts for error in part.errors],
            strange=np.concatenate([part.strange for part in parts if part.strange is not None]),
        )

    def having(self, branches: Sequence[Branch], inputs: Collection[str]) -> NDArray[np.bool_]:
        """Return a mask (films,) of those that have all of `inputs`, for every branch that reads them."""
        return np.asarray((self.present[:, _reading(branches, inputs)] > 0).all(axis=1), dtype=bool)

    def only(
        self, branches: Sequence[Branch], inputs: Collection[str], films: NDArray[np.bool_] | NDArray[np.int64]
    ) -> Features:
        """Return the features of `films`, a mask or rows, with all inputs but `inputs` hidden."""
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

    Args:
        bundle: the bundle.
        threads: as for `load`.
        spin: as for `load`.
        once: it predicts only one film, so it should be ready soon rather than fast.

    Attributes:
        bundle: the bundle.
        genres: its genres, in the order of every array.
    """

    def __init__(self, bundle: Bundle, *, threads: int | None = None, spin: bool = True, once: bool = False) -> None:
        self.bundle = bundle
        self.genres = bundle.config.genres
        self._opened = False
        self._branches = [
            LoadedBranch(bundle, branch, threads or cores(), spin=spin, once=once) for branch in bundle.config.branches
        ]

    @cached_property
    def _fusion(self) -> ort.InferenceSession:
        return open_session(self.bundle.read(self.bundle.config.fusion), self.bundle.config.fusion, 1)

    @cached_property
    def _pictures(self) -> PictureDetector | None:
        return PictureDetector.of(self.bundle)

    @cached_property
    def _rules(self) -> dict[str, DecisionRule]:
        decisions = self.bundle.config.decisions
        return {inputs: DecisionRule(self.genres, decision) for inputs, decision in decisions.items()}

    def predict(
        self, plot: str | None = None, poster: str | Path | bytes | None = None, *, title: str | None = None
    ) -> Prediction:
        """Predict one film's genres from its plot, its poster, or both.

        Args:
            plot: the plot in prose.
            poster: an image file, or its bytes.
            title: the title; it only helps together with a plot.

        Raises:
            InputError: there is no readable plot or poster.
        """
        film = Film(title=title, plot=plot, poster=Path(poster) if isinstance(poster, str) else poster)
        if not self._opened:
            self._opened = True
            self._open(film)
        prediction = self.predict_batch([film])[0]
        if prediction.error is not None:
            raise InputError(prediction.error)
        return prediction

    def _open(self, film: Film) -> None:
        """Open everything that a film needs, large graphs in parallel."""
        for branch in self._branches:
            if getattr(film, branch.spec.input) is not None:
                Thread(target=branch.try_open, name="mmgcs-open").start()
                _ = branch.preprocessor
        if isinstance(film.plot, str):
            Thread(target=identify_language, args=(film.plot,), name="mmgcs-language").start()
        _ = self._fusion

    def predict_batch(self, films: Sequence[Film | str | Mapping[str, Any]]) -> list[Prediction]:
        """Predict many films. A film that cannot be predicted gets a prediction with an `error`; none raises.

        Args:
            films: each a `Film`, a plot, or a mapping with the fields of `Film` as keys, such as `plot` and `poster`.
        """
        features = self.features(films_of(films))
        return self.decide(self.logits(features), features)

    def prepare(self, films: Sequence[Film]) -> list[PreparedFilm]:
        """Read and preprocess films' inputs. Never raises for a bad film."""
        return [self._prepare(film) for film in films]

    def _prepare(self, film: Film) -> PreparedFilm:
        problem = film.problem or _wrong_type(film)
        if problem is not None:
            return PreparedFilm((), film.warnings, problem)
        reads = self.bundle.config.inputs
        warnings = list(film.warnings)
        plot = clean_text(film.plot or "")
        if plot and is_placeholder(plot):
            warnings.append(placeholder_warning(plot))
            plot = ""
        given = {"plot": bool(plot), "poster": film.poster is not None}
        parts: list[Prepared | None] = []
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
        if not any(part is not None for part in parts):
            if failed:
                problem = "; ".join(failed.values())
            elif film.plot is None or film.poster is not None or "plot" not in reads:
                wanted = " or ".join(f"a {name}" for name in reads)
                problem = f"there is nothing to predict from: this model reads {wanted}; give one"
            else:
                placeholder = f"there is nothing to predict from: {warnings[-1]}" if clean_text(film.plot) else ""
                problem = f"{placeholder or 'the plot is empty'}; give a plot in words, or a poster"
            return PreparedFilm((), tuple(warnings), problem)
        warnings.extend(failed.values())
        odd = odd_plot(plot, self.bundle.config.languages) if plot and "plot" in reads else None
        if odd is not None:
            warnings.append(odd)
        return PreparedFilm(tuple(parts), tuple(dict.fromkeys(warnings)), None, odd is not None)

    def features(self, films: Sequence[Film], *, progress: Callable[[int, int], None] | None = None) -> Features:
        """Run the branches' graphs on films' inputs. `progress` is called with the films done, and their number."""
        parts = []
        for start in range(0, max(1, len(films)), CHUNK):
            parts.append(self.features_of(self.prepare(films[start : start + CHUNK])))
            if progress is not None:
                progress(min(start + CHUNK, len(films)), len(films))
        return Features.concatenate(parts)

    def features_of(self, prepared: Sequence[PreparedFilm], *, check: bool = True) -> Features:
        """Run the branches' graphs on prepared films. Plots are sorted by length, so that padding costs little.

        Args:
            prepared: the films.
            check: also find inputs that are unlike those of films.
        """
        values: dict[str, NDArray[np.float32]] = {}
        present = np.zeros((len(prepared), len(self._branches)), dtype=np.float32)
        strange = np.zeros(present.shape, dtype=bool)
        for column, branch in enumerate(self._branches):
            features = np.zeros((len(prepared), branch.spec.width), dtype=np.float32)
            values[branch.spec.name] = features
            parts = [(row, film.parts[column]) for row, film in enumerate(prepared) if film.parts]
            ready = sorted(((row, part) for row, part in parts if part is not None), key=lambda pair: pair[1].length)
            rows = [row for row, _ in ready]
            size = BATCHES.get(branch.spec.input, BATCH)
            for start in range(0, len(ready), size):
                features[rows[start : start + size]] = branch.run([part for _, part in ready[start : start + size]])
            present[rows, column] = 1.0
            if check and ready:
                # All at once: a small product between two runs of a graph waits for that graph's idle threads.
                if branch.spec.input == "plot":
                    strange[rows, column] = [prepared[row].odd_plot for row in rows]
                elif self._pictures is not None:
                    strange[rows, column] = self._pictures.strange([part.value for _, part in ready])
        warnings, errors = [film.warnings for film in prepared], [film.error or "" for film in prepared]
        return Features(values, present, warnings, errors, strange if check else None)

    def attention(self, film: PreparedFilm) -> list[tuple[str, float]]:
        """Return the words of a prepared film's plot with the encoder's attention to each; [] without attention."""
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

    def odds(self, logits: NDArray[np.float32], inputs: str) -> NDArray[np.float32]:
        """Return calibrated log-odds (films, genres) of films whose inputs are `inputs`, such as "plot+poster"."""
        return self._rules[inputs].odds(logits)

    def decide(self, logits: NDArray[np.float32], features: Features) -> list[Prediction]:
        """Turn logits into predictions with the calibration and thresholds for each film's inputs."""
        predictions = []
        for row in range(len(logits)):
            if features.errors[row]:
                predictions.append(Prediction(error=features.errors[row], warnings=features.warnings[row]))
                continue
            present = features.present[row]
            inputs = self._inputs_of(present)
            strange = () if features.strange is None else self._inputs_of(present * features.strange[row])
            warnings = (*features.warnings[row], *(STRANGE.format(name) for name in strange))
            predictions.append(self._rules["+".join(inputs)].decide(logits[row], inputs, strange, warnings))
        return predictions

    def _inputs_of(self, present: NDArray[np.float32]) -> tuple[str, ...]:
        read = {branch.spec.input for branch, there in zip(self._branches, present, strict=True) if there}
        return tuple(name for name in self.bundle.config.inputs if name in read)


def _wrong_type(film: Film) -> str | None:
    """Return which field of a film has the wrong type; None if all are right."""
    for name in ("plot", "title"):
        value = getattr(film, name)
        if value is not None and not isinstance(value, str):
            return f"the {name} is of the type {type(value).__name__}; give a text (str)"
    if film.poster is not None and not isinstance(film.poster, Path | bytes | bytearray | memoryview):
        return f"the poster is of the type {type(film.poster).__name__}; give an image file's path, or its bytes"
    return None


def without(film: Film, hidden: str) -> Film:
    """Return the film with its "plot" (and title) or its "poster" hidden."""
    return replace(film, poster=None) if hidden == "poster" else replace(film, plot=None, title=None)
