"""Show the progress of long work on stderr: bars in a terminal, plain lines now and then in a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")

INTERVAL = 60.0
"""Seconds between two lines about a long run."""

Update = Callable[..., None]
"""Called with a stage's name, how much of it is done, of how much (None if unknown), and perhaps a note."""


def no_progress(*_: object) -> None:
    """Show nothing."""


@contextmanager
def progress_bars(*, bytes: bool = False, lines: float | None = None, enabled: bool = True) -> Iterator[Update]:  # noqa: A002  a unit
    """Yield a function that shows a bar per stage, with its rate and the time left.

    Args:
        bytes: True to count bytes.
        lines: seconds between two lines if stderr is not a terminal, for logs of long runs; None for no lines.
        enabled: False to show nothing.
    """
    if not enabled:
        yield no_progress
        return
    from rich import progress as rich
    from rich.console import Console

    console = Console(stderr=True)
    counts = (rich.DownloadColumn(), rich.TransferSpeedColumn()) if bytes else (rich.MofNCompleteColumn(),)
    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(bar_width=20), *counts, rich.TimeRemainingColumn())
    note_column = rich.TextColumn("{task.fields[note]}")
    # Lines on stdout go through the bar only if stdout is a terminal too; a file gets them unchanged.
    redirect: dict[str, Any] = {"redirect_stdout": sys.stdout.isatty(), "disable": not console.is_terminal}
    with rich.Progress(*columns, note_column, console=console, transient=True, **redirect) as bars:
        tasks: dict[str, rich.TaskID] = {}
        began: dict[str, tuple[float, int]] = {}  # when a stage began, and how much an interrupted run had done
        printed: dict[str, float] = {}

        def update(stage: str, done: int, total: int | None = None, note: str = "") -> None:
            now = time.monotonic()
            if stage not in tasks or (done == 0 and bars.tasks[tasks[stage]].finished):  # a stage that repeats
                began[stage], printed[stage] = (now, done), now
                tasks[stage] = bars.add_task(stage, total=total, completed=done, note=note)
            seconds, steps = now - began[stage][0], done - began[stage][1]
            rate = steps / seconds if seconds > 0 else 0.0
            if rate and not bytes:
                pace = f"{rate:.1f} a second" if rate >= 1 else f"{1 / rate:.1f} seconds each"
                note = f"{pace}, {note}" if note else pace
            bars.update(tasks[stage], completed=done, total=total, note=note)
            if console.is_terminal or lines is None or now - printed[stage] < lines:
                return
            printed[stage] = now
            parts = [f"{stage}: {done:,}", note]
            if total:
                parts[0] = f"{stage}: {done / total:.0%} ({done:,} of {total:,})"
                parts += [f"{_duration((total - done) / rate)} left"] if rate else []
            with suppress(OSError):
                print(", ".join(filter(None, parts)), file=sys.stderr, flush=True)

        yield update


def track(items: Iterable[T], stage: str, total: int | None = None, *, enabled: bool = True) -> Iterator[T]:
    """Yield the items and show how many are done; nothing without `enabled`."""
    with progress_bars(lines=INTERVAL, enabled=enabled) as update:
        for done, item in enumerate(items):
            update(stage, done, total)
            yield item


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
