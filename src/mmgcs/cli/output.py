"""What every command shares: its app, and how it prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer


def new_app(help: str) -> typer.Typer:  # noqa: A002  typer's own word
    """A typer app whose help and errors are plain text: rich would cost more to import than a prediction takes."""
    import typer

    return typer.Typer(help=help, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def say(text: str = "") -> None:
    """Print a line for the person, to stderr: stdout is for results."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print the one JSON value of `--json` to stdout; in ASCII where stdout has no more."""
    json.dump(value, sys.stdout, ensure_ascii=not speaks_unicode(), allow_nan=False, indent=2)
    sys.stdout.write("\n")


def speaks_unicode() -> bool:
    """Whether stdout can show every character."""
    return (sys.stdout.encoding or "").lower().startswith("utf")


def bar(share: float, width: int = 20) -> str:
    """A bar that is `share` (0 to 1) of `width` characters full, in ASCII where the terminal has no more."""
    full, empty = ("█", "·") if speaks_unicode() else ("#", ".")
    cells = round(max(0.0, min(1.0, share)) * width)
    return full * cells + empty * (width - cells)


@contextmanager
def progress_bars(*, bytes: bool = False) -> Iterator[Callable[[str, int, int | None], None]]:  # noqa: A002  a unit
    """A progress bar a stage on stderr, nothing where stderr is not a terminal.

    Yields:
        What is told a stage's name, how much of it is done, and of how much (None where that is not known).
    """
    from rich import progress as rich
    from rich.console import Console

    console = Console(stderr=True)
    counts = (rich.DownloadColumn(), rich.TransferSpeedColumn()) if bytes else (rich.MofNCompleteColumn(),)
    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), *counts)
    left = rich.TimeRemainingColumn(elapsed_when_finished=True)
    with rich.Progress(*columns, left, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, rich.TaskID] = {}

        def tell(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks or (done == 0 and bars.tasks[tasks[stage]].finished):  # a stage that comes again
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield tell
