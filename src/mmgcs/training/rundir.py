"""The folder of a training or a search: a record of what it was made from, and its lock."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mmgcs.errors import UsageError
from mmgcs.files import lock_folder, remove_parts, write_json
from mmgcs.training.labelled import Labelled
from mmgcs.training.recipe import Recipe

Log = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """One training: its settings, data and folders."""

    recipe: Recipe  # what to train
    data: Labelled  # the films to train on
    folder: Path  # the folder of the run's stages and its bundle
    command: str = ""  # the command line, for the card
    log: Log = print  # called with each line for the user
    devices: int = 1  # processes or GPUs to train on
    progress: bool = True
    # the folder of cached stems; None for one inside `folder` that is removed with the stage
    caches: Path | None = None


def is_made_from(state: Path, recipe: Recipe, data: str) -> bool:
    """Return True if the file `state`, which `lock_run_dir` wrote, names this recipe and data (a fingerprint)."""
    try:
        kept = json.loads(state.read_text(encoding="utf-8"))
        # Parsed as a recipe, so that settings newer than the file get their defaults.
        return bool(kept["data"] == data and Recipe.model_validate(kept["recipe"]).model_dump() == recipe.model_dump())
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextmanager
def lock_run_dir(out: Path, recipe: Recipe, data: str, resume: bool, what: str = "run") -> Iterator[None]:
    """Lock a folder for one piece of work: a new folder, or with `resume` the one that an earlier call left.

    Args:
        out: the folder.
        recipe: the recipe, recorded in the folder's `<what>.json`; only the same work can be resumed.
        data: the fingerprint of the data, recorded there too.
        resume: continue the work in an existing folder.
        what: what the folder holds, for that file's name and for errors.

    Raises:
        UsageError: the folder is used, holds other work, or another process is writing to it.
    """
    state = out / f"{what}.json"
    used = out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir())
    if used and not resume:
        raise UsageError(f"{out} already holds a {what}; continue it with --resume, or give another --out")
    if used and not is_made_from(state, recipe, data):
        raise UsageError(f"{out} was made with another recipe or other data; give another --out")
    with lock_folder(out):
        for folder in (out, *(path for path in out.rglob("*") if path.is_dir())):
            remove_parts(folder, "*")
        if not state.is_file():
            write_json(state, {"recipe": recipe.model_dump(mode="json"), "data": data})
        try:
            yield
        except UsageError:
            # A wrong call leaves the folder free, so that the corrected call does not need --resume.
            if [path.name for path in out.iterdir() if not path.name.startswith(".")] == [state.name]:
                state.unlink()
            raise
