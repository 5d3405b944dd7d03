"""`mmgcs tag`: the genres of every film in a table."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmgcs.cli.output import new_app, say
from mmgcs.errors import UsageError

if TYPE_CHECKING:
    from mmgcs.runtime.batch import Summary

app = new_app("Genres of every film in a table.")

STDIO = Path("-")


@app.command()
def tag(
    films: Annotated[Path, typer.Argument(help="CSV, TSV, JSONL or Parquet, the first three also .gz; - for stdin.")],
    out: Annotated[Path, typer.Option(help="A .jsonl, .csv, .tsv or .parquet file; - for JSON lines on stdout.")],
    posters: Annotated[Path | None, typer.Option(help="The folder of posters; without it, the table's.")] = None,
    model: Annotated[Path | None, typer.Option(help="The folder of a bundle; the shipped one without it.")] = None,
    engine: Annotated[str, typer.Option(help="What runs the work.")] = "local",
    resume: Annotated[bool, typer.Option(help="Continue an unfinished run.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace OUT, or begin an unfinished run again.")] = False,
    delimiter: Annotated[str | None, typer.Option(help="What separates the fields of a CSV.")] = None,
    stdin_format: Annotated[str, typer.Option(help="What stdin holds: csv, tsv or jsonl.")] = "csv",
    quiet: Annotated[bool, typer.Option(help="No progress and no summary.")] = False,
) -> None:
    """Tag every film of a table, in order. Exit status 3 when some films are in error."""
    from mmgcs.catalog import open_films
    from mmgcs.runtime import load
    from mmgcs.runtime.batch import check_output, tag_table, tag_to_stream

    if engine != "local":
        raise UsageError(f"there is no engine {engine!r} here; known: local")
    if out == STDIO and resume:
        raise UsageError("--resume needs a file to continue; give --out a file")
    if out != STDIO:
        check_output(out, overwrite=overwrite, resume=resume)
        if films != STDIO and films.exists() and out.exists() and films.samefile(out):
            raise UsageError(f"--out {out} is the table of films itself; give another file")
    suffix = f".{stdin_format.lstrip('.')}"
    with open_films(films, posters=posters, delimiter=delimiter, stdin_format=suffix) as table:
        classifier = load(model)
        progress = None if quiet else _Progress()
        if out == STDIO:
            summary = tag_to_stream(classifier, table, sys.stdout.buffer, progress=progress)
        else:
            summary = tag_table(classifier, table, out, resume=resume, overwrite=overwrite, progress=progress)
    if not quiet:
        for line in summary.lines():
            say(line)
        if out != STDIO:
            say(f"written: {out}")
    if summary.in_error:
        raise typer.Exit(3)


class _Progress:
    """One line on stderr, rewritten in a terminal and repeated twice a minute elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._every = 0.5 if self._terminal else 30.0
        self._began: tuple[float, int] | None = None
        self._shown = time.monotonic()

    def __call__(self, films: int, summary: Summary) -> None:
        now = time.monotonic()
        if self._began is None:
            self._began = (now, films)
        if now - self._shown < self._every:
            return
        self._shown = now
        seconds, done = now - self._began[0], films - self._began[1]
        rate = f", {done / seconds:.0f} a second" if seconds > 0 and done else ""
        line = f"{films:,} films{rate}, {summary.in_error:,} in error"
        sys.stderr.write(f"\r{line}\x1b[K" if self._terminal else f"{line}\n")
        sys.stderr.flush()
