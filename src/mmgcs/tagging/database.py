"""Tag a table in a database: the films that are new or changed, chunk by chunk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mmgcs.bundle import MANIFEST
from mmgcs.files import sha256
from mmgcs.film import Film, Prediction
from mmgcs.runtime import Classifier
from mmgcs.tagging.pipeline import Pipeline, Progress, Sink, TagOptions
from mmgcs.tagging.summary import TagSummary

if TYPE_CHECKING:
    from mmgcs.tables import DatabaseChunk, FilmDatabase


def tag_database(
    classifier: Classifier,
    database: FilmDatabase,
    *,
    overwrite: bool = False,
    complete: Callable[[list[Film]], list[Film]] | None = None,
    progress: Progress | None = None,
) -> TagSummary:
    """Tag the films that have no prediction of the model yet, or that changed since.

    Args:
        classifier: the model.
        database: the films, and where predictions go.
        overwrite: delete the predictions of this model first.
        complete: fills in missing plots and posters, such as `Tmdb`; films in error are then tried again.
        progress: called after each chunk.

    Returns:
        The counts of this run; films without a key count as films in error.

    Raises:
        UsageError, MmgcsError: as `FilmDatabase`.
    """
    sink = DatabaseSink(database, model_name(classifier))
    database.begin(sink.model, overwrite=overwrite)
    pipeline = Pipeline(classifier, TagOptions(complete=complete))
    return pipeline.run(sink.source(retry_errors=complete is not None), sink, progress)


def model_name(classifier: Classifier) -> str:
    """Return how predictions name their model: the bundle's name and the start of its manifest's SHA-256."""
    return f"{classifier.bundle.config.name}@{sha256(classifier.bundle.path / MANIFEST)[:12]}"


class DatabaseSink(Sink):
    """Write predictions to a database, next to the films that it is also the source of: those not tagged yet."""

    def __init__(self, database: FilmDatabase, model: str) -> None:
        self.model = model
        self._database = database
        self._chunks: deque[DatabaseChunk] = deque()

    def source(self, *, retry_errors: bool) -> Iterator[list[Film]]:
        """Yield the films to tag, and remember their keys until their predictions come."""
        for chunk in self._database.chunks(self.model, retry_errors=retry_errors):
            self._chunks.append(chunk)
            yield chunk.films

    def write(self, films: list[Film], predictions: list[Prediction]) -> None:
        """Write a chunk in one transaction."""
        del films
        self._database.save(self.model, self._chunks.popleft(), predictions)

    def finish(self, summary: TagSummary) -> None:
        """Count the films that were not tagged."""
        summary.unchanged = self._database.unchanged
        summary.deleted = self._database.deleted(self.model)
        if lost := self._database.without_key():
            summary.films += lost
            summary.errors["the film has no key"] = lost
