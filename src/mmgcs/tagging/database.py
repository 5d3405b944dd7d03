"""Tag the films of a database table that are new or changed, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mmgcs.bundle import MANIFEST
from mmgcs.files import sha256
from mmgcs.film import Film, Prediction
from mmgcs.runtime import Classifier
from mmgcs.tagging.pipeline import Pipeline, Sink, TagOptions, TagProgress, TagSummary

if TYPE_CHECKING:
    from mmgcs.tables import FilmDatabase


def tag_database(
    classifier: Classifier,
    database: FilmDatabase,
    *,
    overwrite: bool = False,
    complete: Callable[[list[Film]], list[Film]] | None = None,
    progress: TagProgress | None = None,
) -> TagSummary:
    """Tag the films that have no prediction by the model yet, or have changed since.

    Args:
        classifier: the model.
        database: where films are read and predictions are written.
        overwrite: True to delete the predictions of this model first.
        complete: fills in missing plots and posters, such as `Tmdb`; films in error are then tagged again.
        progress: called after each chunk.

    Returns:
        The counts of this run.

    Raises:
        UsageError, MmgcsError: as `FilmDatabase`.
    """
    model = model_name(classifier)
    database.begin(model, overwrite=overwrite)
    films = database.chunks(model, retry_errors=complete is not None)
    return Pipeline(classifier, TagOptions(complete=complete)).run(films, _DatabaseSink(database, model), progress)


def model_name(classifier: Classifier) -> str:
    """Return the name of the model in the tables: the bundle's name and the start of its manifest's SHA-256."""
    return f"{classifier.bundle.config.name}@{sha256(classifier.bundle.path / MANIFEST)[:12]}"


class _DatabaseSink(Sink):
    """Write predictions to the database that the films come from."""

    def __init__(self, database: FilmDatabase, model: str) -> None:
        self._database = database
        self._model = model

    def write(self, films: list[Film], predictions: list[Prediction]) -> None:
        """Write a chunk in one transaction."""
        self._database.save(self._model, films, predictions)

    def finish(self, summary: TagSummary) -> None:
        """Count the films that were not tagged."""
        summary.unchanged = self._database.unchanged
        summary.deleted = self._database.deleted(self._model)
        summary.without_key = self._database.without_key()
