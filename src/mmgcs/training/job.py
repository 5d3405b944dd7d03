"""What the stages of one training share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
