"""What the stages of one training share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgcs.errors import UsageError
from mmgcs.files import alone, remove_parts, write_json
from mmgcs.training.data import Labelled
from mmgcs.training.recipe import Recipe

Log = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """One training's settings and places.

    Attributes:
        recipe: what to make.
        data: what to learn from.
        folder: where the run keeps its stages and its bundle.
        command: the command that repeats it, for the card.
        log: tells the user what happens.
        devices: processes or GPUs to train on.
        progress: show progress bars.
        caches: where frozen halves are kept; None for a place inside `folder` that goes with the stage.
    """

    recipe: Recipe
    data: Labelled
    folder: Path
    command: str
    log: Log
    devices: int = 1
    progress: bool = True
    caches: Path | None = None


@contextmanager
def claimed(out: Path, identity: Mapping[str, Any], resume: bool, what: str = "run") -> Iterator[None]:
    """Have a folder for one piece of work: a new one, or with `resume` the one that an earlier call left.

    Args:
        out: the folder.
        identity: what the work is of, kept in the folder's `<what>.json`; only the same work is gone on with.
        resume: go on with what is there.
        what: what the folder holds, for that file's name and for errors.

    Raises:
        UsageError: the folder is used, holds other work, or another process is at it.
    """
    state = out / f"{what}.json"
    used = out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir())
    if used and not resume:
        raise UsageError(f"{out} already holds a {what}; give --resume to go on with it, or another --out")
    if used and (not state.is_file() or json.loads(state.read_text(encoding="utf-8")) != identity):
        raise UsageError(f"{out} was made with another recipe or other data; give another --out")
    with alone(out):
        for folder in (out, *(path for path in out.rglob("*") if path.is_dir())):
            remove_parts(folder, "*")
        if not state.is_file():
            write_json(state, identity)
        yield
