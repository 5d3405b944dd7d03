"""`mmgcs tag`: the genres of every film in a table."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from mmgcs.cli.output import new_app, print_json, say
from mmgcs.errors import UsageError
from mmgcs.registry import Registry

if TYPE_CHECKING:
    from mmgcs.runtime.batch import Summary
    from mmgcs.tagging.pipeline import Wishes

app = new_app("Genres of every film in a table.")

STDIO = Path("-")
BESIDE = Path()
"""What --compare gets without a file."""
WIDTH = 78
"""Columns that a line of progress covers at most; older consoles of Windows show a code that clears it as it is."""


class _TagCommand(TyperCommand):
    """Lets --compare stand alone: typer has no option with an optional value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given: list[str] = []
        for place, word in enumerate(args):
            given.append(word)
            following = args[place + 1] if place + 1 < len(args) else "--"
            if word == "--compare" and following.startswith("-"):
                given.append("")
        return super().parse_args(ctx, given)


@dataclass(frozen=True, slots=True)
class Task:
    """One call of the command, for the engine that runs it.

    Attributes:
        films: the table; `-` for standard input.
        out: the result; `-` for standard output.
        posters: the folder of posters, if given.
        model: the bundle's folder, if given.
        resume: continue an unfinished run.
        overwrite: replace what is there.
        delimiter: of a CSV, if given.
        stdin_format: the extension of what standard input holds, such as ".csv".
        out_format: the same of standard output.
        wishes: which films to tag, how sure to be, and which lists to write.
        quiet: show no progress.
        address: the cluster's, if given.
        workers: of the cluster, if given.
    """

    films: Path
    out: Path
    posters: Path | None
    model: Path | None
    resume: bool
    overwrite: bool
    delimiter: str | None
    stdin_format: str
    out_format: str
    wishes: Wishes
    quiet: bool
    address: str | None = None
    workers: int | None = None


Engine = Callable[[Task], "Summary"]
"""Runs a task to its end."""

ENGINES: Registry[Engine] = Registry("engine")

# What a call may need to be, as the refusal of an option where it is not.
_DATABASE = "{} is about a database; leave it out, or give --from"
_TABLE = "--from reads a database, writes into it and goes on by itself: leave out {}"
_LOCAL = "--from knows no {}: ask the database for that"
_NO_CLUSTER = "--engine ray knows no {}; leave it out, or filter its result"
_CLUSTER = "{} is about a cluster; leave it out, or give --engine ray"
_SERVICE = "{} keeps what --enrich looks up; leave it out, or give --enrich"
_STDIN = "{} says what standard input holds; leave it out, or give - for FILMS"
_STDOUT = "{} says what standard output gets; leave it out, or give --out -"
_FILE = "{} needs a file for the films; give --out a file"
_ALL = "--only-missing predicts nothing for films with genres, so {} has nothing to compare"
_BESIDE = "{} has no OUT to stand beside; give it a file"

NEEDS: Mapping[str, tuple[str, ...]] = {
    "--from": (_NO_CLUSTER,),
    "--table": (_DATABASE,),
    "--key": (_DATABASE,),
    "--into": (_DATABASE,),
    "FILMS": (_TABLE,),
    "--out": (_TABLE,),
    "--address": (_CLUSTER,),
    "--workers": (_CLUSTER,),
    "--enrich": (_NO_CLUSTER,),
    "--enrich-cache": (_SERVICE,),
    "--resume": (_TABLE, _FILE),
    "--only-missing": (_LOCAL, _NO_CLUSTER),
    "--min-confidence": (_LOCAL, _NO_CLUSTER),
    "--review": (_LOCAL, _NO_CLUSTER),
    "--compare": (_LOCAL, _NO_CLUSTER, _ALL, _BESIDE),
    "--problems": (_LOCAL, _NO_CLUSTER),
    "--delimiter": (_TABLE,),
    "--format": (_STDIN,),
    "--out-format": (_STDOUT,),
    "--json": (_FILE,),
}
"""What each option needs of the call, where it needs something."""


@app.command(cls=_TagCommand)
def tag(
    ctx: typer.Context,
    films: Annotated[
        Path | None, typer.Argument(help="CSV, TSV, JSONL or Parquet, the first three also .gz; - for stdin.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A .jsonl, .csv, .tsv (each also .gz) or .parquet file; - for stdout.")
    ] = None,
    posters: Annotated[Path | None, typer.Option(help="The folder of posters; without it, the table's.")] = None,
    model: Annotated[Path | None, typer.Option(help="The folder of a bundle; the shipped one without it.")] = None,
    source: Annotated[
        str | None, typer.Option("--from", metavar="URL", help="A database in place of FILMS: sqlite:///films.db …")
    ] = None,
    table: Annotated[str | None, typer.Option(help="With --from: the table of films.")] = None,
    key: Annotated[str | None, typer.Option(help="With --from: a unique column; else the primary key.")] = None,
    into: Annotated[str | None, typer.Option(help="With --from: the table of predictions.")] = None,
    enrich: Annotated[str | None, typer.Option(help="Look missing plots and posters up: tmdb.")] = None,
    enrich_cache: Annotated[Path | None, typer.Option(help="A SQLite file that keeps what was looked up.")] = None,
    engine: Annotated[str, typer.Option(help="What runs the work: local, or ray on a cluster.")] = "local",
    address: Annotated[str | None, typer.Option(help="With ray: the cluster; one on this machine without it.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="With ray: actors; one a core without it.")] = None,
    resume: Annotated[bool, typer.Option(help="Continue an unfinished run.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace OUT, or begin an unfinished run again.")] = False,
    only_missing: Annotated[bool, typer.Option("--only-missing", help="Leave films that have genres as is.")] = False,
    min_confidence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Give no genres to films whose confidence is lower.")
    ] = None,
    review: Annotated[Path | None, typer.Option(help="List the films it was unsure of here: .csv or .jsonl.")] = None,
    compare: Annotated[
        Path | None,
        typer.Option(metavar="[FILE]", help="List given genres that are likely wrong; without FILE, beside OUT."),
    ] = None,
    problems: Annotated[Path | None, typer.Option(help="List every error and warning with its line here.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="What separates the fields of a CSV.")] = None,
    stdin_format: Annotated[
        str, typer.Option("--format", "--stdin-format", help="What stdin holds: csv, tsv, jsonl, parquet, csv.gz …")
    ] = "csv",
    out_format: Annotated[str, typer.Option("--out-format", help="What stdout gets: as --format.")] = "jsonl",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON value.")] = False,
    quiet: Annotated[bool, typer.Option(help="No progress and no summary.")] = False,
) -> None:
    """Tag every film of a table, in order. Exit status 3 when some films are in error."""
    from mmgcs.tables.source import without_format
    from mmgcs.tagging.pipeline import Wishes

    run = ENGINES[engine]
    _check(
        ctx,
        {
            _DATABASE: source is not None,
            _TABLE: source is None,
            _LOCAL: source is None,
            _NO_CLUSTER: engine != "ray",
            _CLUSTER: engine == "ray",
            _SERVICE: enrich is not None,
            _STDIN: films == STDIO,
            _STDOUT: out == STDIO,
            _FILE: out != STDIO,
            _ALL: not only_missing,
            _BESIDE: (compare, out) != (BESIDE, STDIO),
        },
    )
    complete = None
    if enrich is not None:
        from mmgcs.tagging.enrich import enricher

        complete = enricher(enrich, cache=enrich_cache)
        ctx.call_on_close(complete.close)
    if source is not None:
        from mmgcs.cli.tag_database import tag_from

        progress = None if quiet else Progress()
        summary, place = tag_from(
            source,
            table,
            key=key,
            into=into,
            posters=posters,
            model=model,
            afresh=overwrite,
            complete=complete,
            progress=progress,
        )
        _report(summary, {"out": place}, as_json=as_json, quiet=quiet)
        return
    if films is None or out is None:
        raise UsageError("give FILMS and --out; or --from and --table, for a database")
    if compare == BESIDE:
        compare = out.with_name(f"{without_format(out)}.compare.csv")
    chosen = {"review": review, "compare": compare, "problems": problems}
    lists = {name: path for name, path in chosen.items() if path is not None}
    reads, writes = (f".{name.lstrip('.')}" for name in (stdin_format, out_format))
    wishes = Wishes(only_missing, min_confidence, lists, complete)
    again = (resume, overwrite)
    task = Task(films, out, posters, model, *again, delimiter, reads, writes, wishes, quiet, address, workers)
    summary = run(task)
    written = {**({} if out == STDIO else {"out": str(out)}), **{name: str(path) for name, path in lists.items()}}
    _report(summary, written, as_json=as_json, quiet=quiet)


def _check(ctx: typer.Context, facts: Mapping[str, bool]) -> None:
    """Refuse the first option that was given and lacks what it needs."""
    for option in ctx.command.params:
        given = ctx.get_parameter_source(option.name or "")
        if given is None or given.name != "COMMANDLINE" or ctx.params.get(option.name or "") is False:
            continue
        name = option.opts[0] if option.opts[0].startswith("-") else option.opts[0].upper()
        for fact in NEEDS.get(name, ()):
            if not facts[fact]:
                raise UsageError(fact.format(name))


def _covering(line: str) -> str:
    """The line, over what stood in its place; never so long that a narrow terminal would begin another."""
    width = min(WIDTH, shutil.get_terminal_size().columns - 1)
    return f"{line[:width]:<{width}}"


def _report(summary: Summary, written: dict[str, str], *, as_json: bool, quiet: bool) -> None:
    if sys.stderr.isatty() and not quiet:
        sys.stderr.write(f"\r{_covering('')}\r")  # what is left of the progress
    if as_json:
        print_json({**summary.as_value(), "written": written})
    elif not quiet:
        for line in [*summary.lines(), *(f"{name} written: {path}" for name, path in written.items())]:
            say(line)
    if summary.in_error:
        raise typer.Exit(3)


@ENGINES.register("local")
def _local(task: Task) -> Summary:
    """This process."""
    from mmgcs.runtime import load
    from mmgcs.tables import WRITERS, open_films
    from mmgcs.tables.source import table_format
    from mmgcs.tagging.pipeline import check_output, tag_table, tag_to_stream

    lists, to_stdout = task.wishes.lists, task.out == STDIO
    again = {"overwrite": task.overwrite, "resume": task.resume}
    with tempfile.TemporaryDirectory(prefix="mmgcs-") if to_stdout else contextlib.nullcontext("") as folder:
        out = Path(folder) / f"out{task.out_format}" if to_stdout else task.out
        check_output(out, **again, lists=lists)
        for path in (task.out, *lists.values()):
            if task.films != STDIO and task.films.exists() and path.exists() and task.films.samefile(path):
                raise UsageError(f"{path} is the table of films itself; give another file")
        with open_films(
            task.films, posters=task.posters, delimiter=task.delimiter, stdin_format=task.stdin_format
        ) as table:
            classifier = load(task.model)
            progress = None if task.quiet else Progress(table.share)
            if to_stdout and not lists and WRITERS[table_format(out)[0]] is WRITERS[".jsonl"] and out.suffix != ".gz":
                return tag_to_stream(classifier, table, sys.stdout.buffer, wishes=task.wishes, progress=progress)
            summary = tag_table(classifier, table, out, **again, wishes=task.wishes, progress=progress)
        if to_stdout:
            with out.open("rb") as handle:
                shutil.copyfileobj(handle, sys.stdout.buffer)
        return summary


@ENGINES.register("ray")
def _ray(task: Task) -> Summary:
    """A Ray cluster."""
    from mmgcs.cli.tag_ray import tag_on_ray

    return tag_on_ray(task, None if task.quiet else Progress())


class Progress:
    """One line on stderr, rewritten in a terminal and repeated twice a minute elsewhere."""

    def __init__(self, share: Callable[[], float] | None = None) -> None:
        """Take what tells the share of the films that was read, where that is known."""
        self._share = share
        self._terminal = sys.stderr.isatty()
        self._every = 0.5 if self._terminal else 30.0
        self._began: tuple[float, int] | None = None
        self._shown = time.monotonic()

    def __call__(self, films: int, summary: Summary) -> None:
        """Show how far a run is; called after each chunk."""
        now = time.monotonic()
        if self._began is None:
            self._began = (now, films)
        if now - self._shown < self._every:
            return
        self._shown = now
        seconds, done = now - self._began[0], films - self._began[1]
        line = f"{films:,} films"
        if seconds > 0 and done:
            line += f", {done / seconds:.0f} a second{self._left(films, seconds / done)}"
        line += f", {summary.in_error:,} in error"
        sys.stderr.write(f"\r{_covering(line)}" if self._terminal else f"{line}\n")
        sys.stderr.flush()

    def _left(self, films: int, each: float) -> str:
        share = self._share() if self._share is not None else 0.0
        if share <= 0.0:
            return ""
        minutes, seconds = divmod(round(films * (1.0 / share - 1.0) * each), 60)
        hours, minutes = divmod(minutes, 60)
        return f", {hours}:{minutes:02}:{seconds:02} left"
