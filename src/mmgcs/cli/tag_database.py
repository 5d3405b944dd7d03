"""`mmgcs tag --from`: the genres of every film in a table of a database."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmgcs.errors import UsageError

if TYPE_CHECKING:
    from mmgcs.film import Film
    from mmgcs.tagging import TagSummary
    from mmgcs.tagging.pipeline import Progress


@dataclass(frozen=True, slots=True)
class DatabaseTask:
    """One run over a database: the arguments of the command; see `FilmDatabase` for most of them.

    Attributes:
        model: a bundle's folder; None for the shipped one.
        overwrite: delete what this model predicted before.
        complete: fills in what films lack.
    """

    address: str
    table: str | None
    schema: str | None = None
    key: str | None = None
    columns: Mapping[str, str] | None = None
    where: str | None = None
    into: str | None = None
    probabilities: bool = False
    posters: Path | None = None
    model: Path | None = None
    overwrite: bool = False
    complete: Callable[[list[Film]], list[Film]] | None = None


def tag_from(task: DatabaseTask, progress: Progress | None = None) -> tuple[TagSummary, str]:
    """Tag the films of a database that the model has not tagged yet, or that changed.

    Returns:
        The counts, and where predictions were written, for a person.

    Raises:
        UsageError, MmgcsError: the call is wrong, or the database refuses.
    """
    if task.table is None:
        raise UsageError("--from needs --table, the table of films")
    try:
        from mmgcs.tables.databases import PREDICTIONS, FilmDatabase
    except ModuleNotFoundError as error:
        raise UsageError(f'--from needs {error.name}, which is not installed; pip install "mmgcs[db]"') from None
    from mmgcs.runtime import load
    from mmgcs.tagging.database import tag_database

    into = task.into or PREDICTIONS
    database = FilmDatabase(
        task.address,
        task.table,
        schema=task.schema,
        key=task.key,
        columns=task.columns,
        where=task.where,
        into=into,
        probabilities=task.probabilities,
        posters=task.posters,
    )
    with contextlib.closing(database):
        summary = tag_database(
            load(task.model), database, overwrite=task.overwrite, complete=task.complete, progress=progress
        )
        return summary, f"{into} in {database.place}"
