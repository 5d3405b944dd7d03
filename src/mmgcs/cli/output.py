"""What every command shares: its app, and how it prints."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO

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


def mend_streams() -> None:
    """Make the standard streams such that no name that cannot be shown and no lost stderr is a reason to stop.

    In the place of one that was closed (`>&-`, a program without a console) stands one that is empty to read, fails
    when stdout is written to, and swallows what is written to stderr.
    """
    # In this order each gets its own number, before the system gives that to a file of ours.
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY), encoding="utf-8", closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        buffer = io.BufferedWriter(_Lossy(sys.stderr.buffer))
        sys.stderr = io.TextIOWrapper(buffer, sys.stderr.encoding, sys.stderr.errors, line_buffering=True)


class _Lossy(io.RawIOBase):
    """A stream whose losses do not matter: a full disk or a closed pipe for stderr."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        with suppress(OSError):
            self._stream.write(data)
            self._stream.flush()
        return len(data)

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()
