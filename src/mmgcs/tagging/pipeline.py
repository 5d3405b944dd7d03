"""The tagging pipeline: source → complete → predict → sink.

A source yields chunks of films, from a table (`FilmTable.chunks`) or a database. A sink writes each chunk with its
predictions to a stream, a file, a folder or a database (`sinks.py`, `database.py`).
"""

from __future__ import annotations

import functools
import re
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmgcs.film import Film, Prediction
from mmgcs.runtime import Classifier, predict_chunks


@dataclass(frozen=True, slots=True)
class TagOptions:
    """Options of a run.

    Attributes:
        only_missing: True to predict only films without genres, and keep the genres of the others.
        min_confidence: films with a lower confidence get no genres; None for the bundle's own thresholds.
        lists: names in `FILM_LISTS`, and the files to write the lists to.
        complete: fills in missing plots and posters before films are predicted, such as `Tmdb`.
    """

    only_missing: bool = False
    min_confidence: float | None = None
    lists: Mapping[str, Path] = field(default_factory=dict)
    complete: Callable[[list[Film]], list[Film]] | None = None

    def wants(self, film: Film) -> bool:
        """Return True if the film should be predicted."""
        return not (self.only_missing and film.genres and film.problem is None)

    def settle(self, prediction: Prediction) -> Prediction:
        """Apply `min_confidence`: remove the genres of a prediction below it."""
        if self.min_confidence is None or not prediction.inputs:
            return prediction
        sure = prediction.reaches(self.min_confidence)
        return replace(prediction, sure=sure, genres=prediction.genres if sure else ())


@dataclass(slots=True)
class TagSummary:
    """Counts of a run.

    Attributes:
        films: films tagged, including those before the run was resumed.
        kept: films among them that kept their genres and were not predicted.
        errors: films in error by kind of error (see `error_kind`).
        warnings: films with at least one warning.
        unsure: films whose prediction is not sure.
        genres: genre to the number of films predicted to have it.
        found: rows of each list that was written.
        unchanged: films of a database that were skipped because they already have a prediction.
        deleted: films that have a prediction, but are no longer in the database.
        without_key: films of a database that cannot be tagged because their key is null.
        seconds: time spent in this run.
    """

    films: int = 0
    kept: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    warnings: int = 0
    unsure: int = 0
    genres: Counter[str] = field(default_factory=Counter)
    found: dict[str, int] = field(default_factory=dict)
    unchanged: int = 0
    deleted: int = 0
    without_key: int = 0
    seconds: float = 0.0

    @property
    def in_error(self) -> int:
        """The number of films in error."""
        return sum(self.errors.values())

    def add(self, prediction: Prediction) -> None:
        """Count one film."""
        self.films += 1
        if prediction.error is not None:
            self.errors[error_kind(prediction.error)] += 1
        elif not prediction.inputs:
            self.kept += 1
            return
        elif not prediction.sure:
            self.unsure += 1
        self.warnings += bool(prediction.warnings)
        self.genres.update(prediction.genres)

    def merge(self, counts: Mapping[str, Any]) -> None:
        """Add the counts of another run, as its `to_json` returned them."""
        for name in ("films", "kept", "warnings", "unsure"):
            setattr(self, name, getattr(self, name) + counts[name])
        self.errors.update(counts["errors"])
        self.genres.update(counts["genres"])

    def lines(self) -> list[str]:
        """Return the summary as lines of text."""
        rate = self.films / self.seconds if self.seconds else 0.0
        speed = f", {rate:.0f} a second" if rate >= 1 else ""
        counts = f"{self.in_error:,} in error, {self.unsure:,} not sure, {self.warnings:,} with a warning"
        if self.kept:
            counts += f", {self.kept:,} kept as they were"
        if self.unchanged:
            counts += f", {self.unchanged:,} unchanged since they were tagged"
        lines = [f"{self.films:,} film{'s' * (self.films != 1)} in {self.seconds:.1f} s{speed}: {counts}"]
        if self.genres:
            lines.append("genres: " + ", ".join(f"{genre} {count:,}" for genre, count in self.genres.most_common()))
        if self.deleted:
            lines.append(f"{self.deleted:,} films have a prediction, but are no longer in the table")
        if self.without_key:
            lines.append(f"{self.without_key:,} films cannot be tagged because their key is null; give them a key")
        lines += [f"error in {count:,}: {kind}" for kind, count in self.errors.most_common(20)]
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the summary as a JSON object, with genres and errors sorted by count."""
        return {
            **{name: getattr(self, name) for name in self.__slots__},
            "in_error": self.in_error,
            "genres": dict(self.genres.most_common()),
            "errors": dict(self.errors.most_common()),
            "seconds": round(self.seconds, 3),
        }


def error_kind(error: str) -> str:
    """Remove paths, numbers and details from an error, so that similar errors are counted together.

    >>> error_kind("the poster /a/b.jpg does not exist; check the path")
    'the poster … does not exist'
    """
    text = error.split("; ")[0]
    text = re.sub(r"the poster (?:'[^']*'|\S*[/.\\]\S*)", "the poster …", text)
    text = re.sub(r"\(.*\)", "", text)
    return " ".join(re.sub(r"\d[\d,]*", "…", text).split())


TagProgress = Callable[[TagSummary], None]
"""Called after each chunk with the counts so far."""


class Sink(ABC):
    """Writes predictions."""

    def resume(self) -> TagSummary:
        """Return the counts of the films that an earlier run wrote; they are skipped."""
        return TagSummary()

    @abstractmethod
    def write(self, films: list[Film], predictions: list[Prediction]) -> None:
        """Write the next chunk. The predictions are the model's own, before `TagOptions.settle`."""

    def finish(self, summary: TagSummary) -> None:  # noqa: B027  optional
        """Complete the output after the last chunk."""


Predictor = Callable[[Iterator[list[Film]]], Iterator[tuple[list[Film], list[Prediction]]]]
"""Predicts chunks of films, in order."""


class Pipeline:
    """Tags films: completes them, predicts them, and hands them to a sink."""

    def __init__(
        self, classifier: Classifier, options: TagOptions = TagOptions(), *, predict: Predictor | None = None
    ) -> None:
        """Prepare a run.

        Args:
            classifier: the model.
            options: the options of the run.
            predict: predicts chunks; by default `predict_chunks` on all cores.
        """
        self._options = options
        self._predict = predict or functools.partial(predict_chunks, classifier, wants=options.wants)

    def run(self, source: Iterator[list[Film]], sink: Sink, progress: TagProgress | None = None) -> TagSummary:
        """Tag the films of a source and write them to a sink.

        Films that an earlier run wrote are skipped, so the source must yield the same films in the same order.

        Returns:
            The counts, including the films that were skipped.
        """
        started, summary = time.monotonic(), sink.resume()
        for films, predictions in self._predict(self._prepared(source, summary.films)):
            sink.write(films, predictions)
            for prediction in predictions:
                summary.add(self._options.settle(prediction))
            summary.seconds = time.monotonic() - started
            if progress is not None:
                progress(summary)
        sink.finish(summary)
        summary.seconds = time.monotonic() - started
        return summary

    def _prepared(self, source: Iterator[list[Film]], skip: int) -> Iterator[list[Film]]:
        """Yield completed chunks, without the first `skip` films, which always end with a chunk.

        Skipped films are still read, because a later film may repeat their id.
        """
        complete, wants = self._options.complete, self._options.wants
        read = 0
        for films in source:
            read += len(films)
            if read <= skip:
                continue
            if complete is not None:
                completed = iter(complete([film for film in films if wants(film)]))
                films = [next(completed) if wants(film) else film for film in films]
            yield films
