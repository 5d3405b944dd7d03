"""What `mmgcs tag --from` does: the genres of every film in a table of a database."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mmgcs.errors import UsageError

if TYPE_CHECKING:
    from mmgcs.film import Film
    from mmgcs.tagging.pipeline import Progress
    from mmgcs.tagging.summary import TagSummary


def tag_from(
    address: str,
    table: str | None,
    *,
    key: str | None = None,
    into: str | None = None,
    posters: Path | None = None,
    model: Path | None = None,
    afresh: bool = False,
    complete: Callable[[list[Film]], list[Film]] | None = None,
    progress: Progress | None = None,
) -> tuple[TagSummary, str]:
    """Tag the films of a database that the model has not tagged yet.

    Args:
        address: as `FilmDatabase`, like `table`, `key`, `into` and `posters`.
        model: a bundle's folder; the shipped one without it.
        afresh: forget what this model predicted before.
        complete: fills in what films lack.
        progress: told after each page.

    Returns:
        What was done, and where it was written, for a person.

    Raises:
        UsageError, MmgcsError: the call is wrong, or the database refuses.
    """
    if table is None:
        raise UsageError("--from needs --table, the table of films")
    try:
        from mmgcs.tables.databases import PREDICTIONS, FilmDatabase
    except ModuleNotFoundError as error:
        raise UsageError(f'--from needs {error.name}, which is not installed; pip install "mmgcs[db]"') from None
    from mmgcs.runtime import load
    from mmgcs.tagging.database import tag_database

    into = into or PREDICTIONS
    with contextlib.closing(FilmDatabase(address, table, key=key, into=into, posters=posters)) as database:
        summary = tag_database(load(model), database, afresh=afresh, complete=complete, progress=progress)
        return summary, f"{into} in {database.place}"
