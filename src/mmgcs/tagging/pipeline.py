"""The tagging pipeline: source → complete → predict → sink.

A source is an iterator of chunks of films: of a table (`FilmTable.chunks`) or a database. A sink takes each chunk with
its predictions: a stream, a file, a folder, a database (`sinks.py`, `database.py`).
"""

from __future__ import annotations

import functools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mmgcs.film import Film, Prediction
from mmgcs.runtime import Classifier, predict_chunks
from mmgcs.tagging.summary import TagSummary


@dataclass(frozen=True, slots=True)
class TagOptions:
    """What a run should do beyond tagging every film.

    Attributes:
        only_missing: keep the genres of films that have some, without predicting.
        min_confidence: films with a lower confidence get no genres; None for the bundle's own thresholds.
        lists: a name in `FILM_LISTS` to the file the list is written to.
        complete: fills in missing plots and posters before films are predicted, such as an `Enricher`.
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
