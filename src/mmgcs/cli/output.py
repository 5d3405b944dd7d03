"""What every command shares: its app, and how it prints."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import typer

from mmgcs.errors import InterruptedRunError

if TYPE_CHECKING:
    from mmgcs.film import Prediction


def new_app(help: str, epilog: str | None = None) -> typer.Typer:  # noqa: A002  typer's own word
    """Return the typer app of one command, or of a group of commands that shows its help when called alone.

    Args:
        help: one line.
        epilog: for a group, the `examples` at the end of its help; a command gives its own to `@app.command`.
    """
    return typer.Typer(
        help=help,
        epilog=epilog,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )


def examples(*lines: str) -> str:
    """Return the end of a command's help: example calls, for `@app.command(epilog=examples(…))`."""
    return "\n".join(["Examples:", *(f"  {line}".replace("[", "\\[") for line in lines)])


@contextmanager
def explain_interrupt(message: str) -> Iterator[None]:
    """Turn Ctrl-C inside the block into exit status 130 with one line: what is kept, and how to resume.

    Raises:
        InterruptedRunError: Ctrl-C was pressed.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRunError(f"interrupted; {message}") from None


def say(text: str = "") -> None:
    """Print a line for the person, to stderr: stdout is for results. A stderr that is full or closed is ignored."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print the one JSON value of `--json` to stdout, in ASCII if stdout is not Unicode."""
    json.dump(value, sys.stdout, ensure_ascii=not speaks_unicode(), allow_nan=False, indent=2)
    sys.stdout.write("\n")


def speaks_unicode() -> bool:
    """Return True if stdout can show every character."""
    return (sys.stdout.encoding or "").lower().startswith("utf")


def bar(share: float, width: int = 20) -> str:
    """Return a bar that is `share` (0 to 1) of `width` characters full, in ASCII if stdout is not Unicode."""
    full, empty = ("█", "·") if speaks_unicode() else ("#", ".")
    cells = round(max(0.0, min(1.0, share)) * width)
    return full * cells + empty * (width - cells)


def prediction_text(prediction: Prediction) -> str:
    """Return a prediction for a person: a bar per genre, likely genres first and marked, then the verdict."""
    width = max(map(len, prediction.probabilities))
    lines = [
        f"{'*' if genre in prediction.genres else ' '} {genre:<{width}}  {probability:4.0%}  {bar(probability)}"
        for genre, probability in sorted(prediction.probabilities.items(), key=lambda pair: -pair[1])
    ]
    read = " and ".join(prediction.inputs)
    if prediction.genres:
        lines += ["", f"From the {read}: {', '.join(prediction.genres)} (confidence {prediction.confidence:.0%})."]
    else:
        lines += ["", f"From the {read}: no genre is likely enough."]
    if not prediction.sure:
        lines.append("NOT SURE: worth a human look.")
    if prediction.undecided:
        lines.append(f"Undecided: {', '.join(prediction.undecided)}.")
    return "\n".join(lines)


@contextmanager
def progress_bars(*, bytes: bool = False) -> Iterator[Callable[[str, int, int | None], None]]:  # noqa: A002  a unit
    """Show a progress bar per stage on stderr; nothing if stderr is not a terminal.

    Yields:
        A function to call with a stage's name, how much of it is done, and of how much (None if unknown).
    """
    from rich import progress as rich
    from rich.console import Console

    console = Console(stderr=True)
    counts = (rich.DownloadColumn(), rich.TransferSpeedColumn()) if bytes else (rich.MofNCompleteColumn(),)
    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), *counts)
    left = rich.TimeRemainingColumn(elapsed_when_finished=True)
    with rich.Progress(*columns, left, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, rich.TaskID] = {}

        def update(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks or (done == 0 and bars.tasks[tasks[stage]].finished):  # a stage that repeats
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield update


def prepare_streams() -> None:
    """Make stdout show any file name, and replace standard streams that are closed by empty ones."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
