"""`mmgcs tag --engine ray`: the genres of every film in sharded tables, on a cluster."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mmgcs.errors import UsageError

if TYPE_CHECKING:
    from mmgcs.cli.tag import ProgressLine, TagTask
    from mmgcs.tagging import TagSummary


def tag_on_ray(task: TagTask, progress: ProgressLine | None, *, address: str | None, workers: int | None) -> TagSummary:
    """Tag tables of films on a Ray cluster, as `tag_with_ray`.

    Raises:
        UsageError: Ray is not installed, or the call is wrong.
        MmgcsError: the cluster cannot be reached, or lost the work.
    """
    if Path("-") in (task.films, task.out):
        raise UsageError("--engine ray reads and writes folders, not stdin and stdout; give addresses")
    try:
        from mmgcs.tagging.ray_engine import tag_with_ray
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("mmgcs"):
            raise
        raise UsageError(
            f'--engine ray needs {error.name}, which is not installed; pip install "mmgcs[scale]"'
        ) from None
    return tag_with_ray(
        address_of(task.films),
        address_of(task.out),
        posters=address_of(task.posters) if task.posters is not None else None,
        model=task.model,
        address=address,
        workers=workers,
        resume=task.resume,
        overwrite=task.overwrite,
        delimiter=task.delimiter,
        columns=task.columns,
        progress=progress,
    )


def address_of(path: Path) -> str:
    """Return the address that a path was made from: a path folds the slashes after a scheme.

    >>> address_of(Path("s3://films/tables")), address_of(Path("films/tables"))
    ('s3://films/tables', 'films/tables')
    """
    return re.sub(r"^([a-z][a-z0-9+.-]+):/+", r"\1://", path.as_posix())
