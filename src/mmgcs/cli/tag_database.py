"""What `mmgcs tag --from` does: the genres of every film in a table of a database."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mmgcs.cli.output import say
from mmgcs.errors import UsageError

if TYPE_CHECKING:
    from mmgcs.film import Film
    from mmgcs.runtime.batch import Progress


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
    quiet: bool = False,
) -> int:
    """Tag the films of a database that the model has not tagged yet.

    Args:
        address: as `FilmDatabase`, like `table`, `key`, `into` and `posters`.
        model: a bundle's folder; the shipped one without it.
        afresh: forget what this model predicted before.
        complete: fills in what films lack.
        progress: told after each page.
        quiet: no summary.

    Returns:
        The exit status: 0 done, 3 with some films in error.

    Raises:
        UsageError, MmgcsError: the call is wrong, or the database refuses.
    """
    if table is None:
        raise UsageError("--from needs --table, the table of films")
    try:
        from mmgcs.catalog.databases import PREDICTIONS, FilmDatabase
    except ModuleNotFoundError as error:
        raise UsageError(f"--from needs {error.name}, which is not installed; pip install 'mmgcs[db]'") from None
    from mmgcs.runtime import load
    from mmgcs.runtime.database import tag_database

    into = into or PREDICTIONS
    with contextlib.closing(FilmDatabase(address, table, key=key, into=into, posters=posters)) as database:
        classifier = load(model)
        summary = tag_database(classifier, database, afresh=afresh, complete=complete, progress=progress)
        if not quiet:
            for line in summary.lines():
                say(line)
            wrong = f", errors to {into}_errors" if summary.in_error else ""
            say(f"written: {into} in {database.place}{wrong}")
    return 3 if summary.in_error else 0
