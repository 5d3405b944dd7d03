"""The tagging pipeline: source → complete → predict → sink.

A source is an iterator of chunks of films: of a table (`FilmTable.chunks`) or a database. A sink takes each chunk with
its predictions: a stream, a file, a folder, a database (`sinks.py`, `database.py`).
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
    """What a run should do beyond tagging every film.

    Attributes:
        only_missing: keep the genres of films that have some, without predicting.
        min_confidence: films with a lower confidence get no genres; None for the bundle's own thresholds.
        lists: a name in `FILM_LISTS` to the file the list is written to.
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
        """Return the prediction as `min_confidence` allows it: below that, without genres."""
        if self.min_confidence is None or not prediction.inputs:
            return prediction
        sure = prediction.reaches(self.min_confidence)
        return replace(prediction, sure=sure, genres=prediction.genres if sure else ())


@dataclass(slots=True)
class TagSummary:
    """Counts of a run.

    Attributes:
        films: films tagged, including those of an earlier run that was resumed.
        kept: films among them that kept the genres they had, without a prediction.
        errors: films in error, by the error without its particulars (paths, numbers, names).
        warnings: films with at least one warning.
        unsure: films whose prediction is not sure.
        genres: genre to the number of films it was chosen for.
        found: rows of each list that was asked for.
        unchanged: films of a database that were left out, because they have a prediction already.
        deleted: films of a database that have a prediction, but are gone.
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
        lines = [
            f"{self.films:,} films in {self.seconds:.1f} s"
            + (f", {rate:.0f} a second" if rate >= 1 else "")
            + f": {self.in_error:,} in error, "
            f"{self.unsure:,} not sure, {self.warnings:,} with a warning"
            + (f", {self.kept:,} kept as they were" if self.kept else "")
            + (f", {self.unchanged:,} unchanged since they were tagged" if self.unchanged else "")
        ]
        if self.genres:
            lines.append("genres: " + ", ".join(f"{genre} {count:,}" for genre, count in self.genres.most_common()))
        if self.deleted:
            lines.append(f"{self.deleted:,} films have a prediction, but are not in the table any more")
        lines += [f"error in {count:,}: {kind}" for kind, count in self.errors.most_common(20)]
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the summary as a JSON object, with genres and errors ordered by their number."""
        return {
            **{name: getattr(self, name) for name in self.__slots__},
            "in_error": self.in_error,
            "genres": dict(self.genres.most_common()),
            "errors": dict(self.errors.most_common()),
            "seconds": round(self.seconds, 3),
        }


def error_kind(error: str) -> str:
    """Return an error without what differs between films, so that equal errors are counted together.

    >>> error_kind("the poster /a/b.jpg does not exist; check the path")
    'the poster … does not exist'
    """
    text = error.split("; ")[0]
    text = re.sub(r"the poster (?:'[^']*'|\S*[/.\\]\S*)", "the poster …", text)
    text = re.sub(r"\(.*\)", "", text)
    return " ".join(re.sub(r"\d[\d,]*", "…", text).split())


Progress = Callable[[TagSummary], None]
"""Called after each chunk with the counts so far."""


class Sink(ABC):
    """Where predictions go."""

    def resume(self) -> TagSummary:
        """Return the counts of the films that an earlier run has written; these are skipped."""
        return TagSummary()

    @abstractmethod
    def write(self, films: list[Film], predictions: list[Prediction]) -> None:
        """Take the next chunk; predictions are as the model made them (see `TagOptions.settle`)."""

    def finish(self, summary: TagSummary) -> None:  # noqa: B027  most sinks have nothing to complete
        """Complete the output once every chunk was written."""


Predictor = Callable[[Iterator[list[Film]]], Iterator[tuple[list[Film], list[Prediction]]]]
"""Predicts chunks of films, in order."""


class Pipeline:
    """Tag films: complete them, predict them, and hand them to a sink."""

    def __init__(
        self, classifier: Classifier, options: TagOptions = TagOptions(), *, predict: Predictor | None = None
    ) -> None:
        """Prepare a run.

        Args:
            classifier: the model.
            options: which films to tag, and how sure to be.
            predict: how chunks are predicted; by default `predict_chunks` on all cores.
        """
        self._options = options
        self._predict = predict or functools.partial(predict_chunks, classifier, wants=options.wants)

    def run(self, source: Iterator[list[Film]], sink: Sink, progress: Progress | None = None) -> TagSummary:
        """Tag the films of a source and write them to a sink.

        Films that the sink holds from an earlier run are skipped: the source must yield the same films as it did then.

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
        """Yield chunks to predict, completed, without the first `skip` films, which end with a chunk.

        These are read all the same: films with the same id may follow.
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
