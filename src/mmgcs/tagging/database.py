"""Tagging a table in a database: page by page, each committed with its predictions or not at all."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mmgcs.bundle import MANIFEST
from mmgcs.files import sha256
from mmgcs.film import Film
from mmgcs.runtime.batch import predict_chunks
from mmgcs.runtime.classifier import Classifier
from mmgcs.tagging.pipeline import Progress
from mmgcs.tagging.summary import TagSummary

if TYPE_CHECKING:
    from mmgcs.tables.databases import FilmDatabase, Page


def model_name(classifier: Classifier) -> str:
    """How predictions name their model: the bundle's name and the start of its manifest's SHA-256."""
    return f"{classifier.bundle.config.name}@{sha256(classifier.bundle.path / MANIFEST)[:12]}"


def tag_database(
    classifier: Classifier,
    database: FilmDatabase,
    *,
    afresh: bool = False,
    complete: Callable[[list[Film]], list[Film]] | None = None,
    progress: Progress | None = None,
) -> TagSummary:
    """Tag the films that the model has not tagged yet, in the order of their keys.

    Args:
        classifier: the model.
        database: the films, and where predictions go.
        afresh: forget what this model predicted before.
        complete: fills in what films lack, such as an `Enricher`.
        progress: told after each page.

    Returns:
        What this run did; films without a key count as films in error.

    Raises:
        UsageError, MmgcsError: as `FilmDatabase`.
    """
    model, summary, started = model_name(classifier), TagSummary(), time.monotonic()
    standing = database.begin(model, afresh=afresh)
    pages: deque[Page] = deque()

    def chunks() -> Iterator[list[Film]]:
        for page in database.pages(standing.last_key):
            pages.append(page)
            yield complete(page.films) if complete is not None else page.films

    for _, predictions in predict_chunks(classifier, chunks()):
        standing = database.commit(model, standing, pages.popleft(), predictions)
        for prediction in predictions:
            summary.add(prediction)
        summary.seconds = time.monotonic() - started
        if progress is not None:
            progress(summary)
    if lost := database.without_key():
        summary.films += lost
        summary.errors["the film has no key"] = lost
    return summary
