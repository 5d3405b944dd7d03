"""`mmgcs tag`: tag every film of a table, a database, or many tables on a cluster."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option
from typer.core import TyperCommand

from mmgcs.cli.options import Columns, Model, Posters, parse_columns
from mmgcs.cli.output import examples, explain_interrupt, new_app, print_json, say
from mmgcs.errors import UsageError
from mmgcs.progress import progress_bars

if TYPE_CHECKING:
    from mmgcs.tables import FilmTable
    from mmgcs.tagging import TagOptions, TagSummary

app = new_app()

STDIO = Path("-")
CHOICE = ("--only-missing", "--min-confidence", "--review", "--compare", "--problems")

_list = partial(Option, rich_help_panel="Which films, and lists of films worth a look")
_database = partial(Option, rich_help_panel="A database")
_cluster = partial(Option, rich_help_panel="A cluster")


class _TagCommand(TyperCommand):
    """Allow --compare without a value; typer has no options with an optional value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given: list[str] = []
        for word, following in zip(args, [*args[1:], "--"], strict=True):
            given += [word, ""] if word == "--compare" and following.startswith("-") else [word]
        return super().parse_args(ctx, given)


@app.command(
    cls=_TagCommand,
    epilog=examples(
        "mmgcs tag films.csv --posters posters/ --out tagged.csv",
        "mmgcs tag films.parquet --out tagged.parquet --only-missing --min-confidence 0.7 --review review.csv",
        "mmgcs tag films.csv --columns plot=synopsis id=uuid --out tagged.jsonl --resume",
        "mmgcs tag --from sqlite:///films.db --table films",
    ),
)
def tag(
    ctx: typer.Context,
    films: Annotated[
        Path | None,
        Argument(help="CSV, TSV, JSON, Parquet or a workbook; a folder or pattern of them; - for stdin."),
    ] = None,
    out: Annotated[
        Path | None,
        Option(help="A .csv, .tsv, .jsonl, .json (also .gz, .zst) or .parquet file; a folder for many; - for stdout."),
    ] = None,
    posters: Posters = None,
    model: Model = None,
    columns: Columns = None,
    resume: Annotated[bool, Option("--resume", help="Resume an unfinished run.")] = False,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace the output, or start an unfinished run again.")
    ] = False,
    enrich: Annotated[str | None, Option(help="Look up missing plots and posters: tmdb.")] = None,
    enrich_cache: Annotated[Path | None, Option(help="A SQLite file that caches look-ups.")] = None,
    delimiter: Annotated[str | None, Option(help="The delimiter of CSV; detected by default.")] = None,
    stdin_format: Annotated[
        str, Option("--format", "--stdin-format", help="The format of stdin: csv, tsv, jsonl, parquet, csv.gz …")
    ] = "csv",
    out_format: Annotated[str, Option("--out-format", help="The format of stdout; see --format.")] = "jsonl",
    as_json: Annotated[bool, Option("--json", help="Print the summary as one JSON value.")] = False,
    quiet: Annotated[bool, Option("--quiet", help="Print no progress and no summary.")] = False,
    only_missing: Annotated[bool, _list("--only-missing", help="Keep the genres of films that have some.")] = False,
    min_confidence: Annotated[
        float | None, _list(min=0, max=1, help="Give no genres to films with a lower confidence.")
    ] = None,
    review: Annotated[Path | None, _list(help="List films with unsure predictions here.")] = None,
    compare: Annotated[
        Path | None,
        _list(metavar="[FILE]", help="List given genres that are likely wrong; without FILE, next to the output."),
    ] = None,
    problems: Annotated[Path | None, _list(help="List every error and warning here, with its line number.")] = None,
    source: Annotated[
        str | None, _database("--from", metavar="URL", help="A database instead of FILMS: sqlite:///films.db …")
    ] = None,
    table: Annotated[str | None, _database(help="The table of films.")] = None,
    schema: Annotated[str | None, _database(help="The schema of the table.")] = None,
    key: Annotated[str | None, _database(help="A unique column; by default the primary key.")] = None,
    where: Annotated[str | None, _database(metavar="SQL", help="Tag only films that meet this condition.")] = None,
    into: Annotated[str | None, _database(help="The table of predictions.")] = None,
    probabilities: Annotated[
        bool, _database("--probabilities", help="Also write a row per film and genre, and a view.")
    ] = False,
    engine: Annotated[str, _cluster(help="Where the work runs: local, or ray for a cluster.")] = "local",
    address: Annotated[str | None, _cluster(help="The cluster; by default one on this machine.")] = None,
    workers: Annotated[int | None, _cluster(min=1, help="Workers; by default one per core.")] = None,
) -> None:
    """Tag every film of a table, in order. Exit status 3 if some films are in error."""
    if engine not in ("local", "ray"):
        raise UsageError(f"no engine {engine!r}; known: local, ray")
    from_database, cluster = source is not None, engine == "ray"
    _refuse(ctx, cluster, ("--from", "--enrich", *CHOICE), "--engine ray does not support {}; leave it out")
    _refuse(ctx, from_database, ("FILMS", "--out", "--resume", "--delimiter"), "--from tags a database; leave out {}")
    _refuse(ctx, from_database, CHOICE, "--from does not support {}; query the table of predictions instead")
    database_options = ("--table", "--schema", "--key", "--where", "--into", "--probabilities")
    _refuse(ctx, not from_database, database_options, "{} needs a database; add --from")
    _refuse(ctx, not cluster, ("--address", "--workers"), "{} needs a cluster; add --engine ray")
    _refuse(ctx, enrich is None, ("--enrich-cache",), "{} needs --enrich")
    _refuse(ctx, films != STDIO, ("--format",), "{} is the format of standard input; use it with - for FILMS")
    _refuse(ctx, out != STDIO, ("--out-format",), "{} is the format of standard output; use it with --out -")
    _refuse(ctx, out == STDIO, ("--resume", "--json"), "{} needs a file as --out")
    _refuse(
        ctx, only_missing, ("--compare",), "{} has nothing to compare with --only-missing, which keeps given genres"
    )

    names = parse_columns(columns)
    complete = None
    if enrich is not None:
        from mmgcs.tagging import enricher

        complete = enricher(enrich, cache=enrich_cache)
        ctx.call_on_close(complete.close)
    finished = False
    if source is not None:
        if table is None:
            raise UsageError("--from needs --table, the table of films")
        from mmgcs.runtime import load
        from mmgcs.tables import FilmDatabase
        from mmgcs.tagging import tag_database

        database = FilmDatabase(
            source,
            table,
            schema=schema,
            key=key,
            columns=names,
            where=where,
            into=into,
            probabilities=probabilities,
            posters=posters,
        )
        for notice in () if quiet else database.notices:
            say(notice)
        kept = "what was written is kept; run the same command again to continue"
        with contextlib.closing(database), explain_interrupt(kept), _progress(quiet) as progress:
            summary = tag_database(load(model), database, overwrite=overwrite, complete=complete, progress=progress)
        places = {"out": f"{database.into} in {database.place}"}
    elif films is None or out is None:
        raise UsageError("give FILMS and --out; or --from and --table for a database")
    elif cluster:
        if STDIO in (films, out):
            raise UsageError("--engine ray reads and writes folders, not stdin and stdout; give addresses")
        from mmgcs.tagging import TagSummary, tag_with_ray

        kept = f"finished parts are kept in {out}; run the same command with --resume to continue"
        with explain_interrupt(kept), _progress(quiet) as progress:
            summary = tag_with_ray(
                films,
                out,
                posters=posters,
                model=model,
                address=address,
                workers=workers,
                resume=resume,
                overwrite=overwrite,
                delimiter=delimiter,
                columns=names,
                progress=progress,
            )
        finished = resume and summary == TagSummary()
        places = {"out": str(out)}
    else:
        from mmgcs.tables import FilmTable, spooled_stdin, without_format
        from mmgcs.tagging import TagOptions, TagSummary, check_output, is_finished

        to_stdout, from_stdin = out == STDIO, films == STDIO
        if compare == Path():  # --compare without a file
            if to_stdout:
                raise UsageError("--compare needs a file when --out is -")
            compare = out.with_name(f"{without_format(out)}.compare.csv")
        lists = {"review": review, "compare": compare, "problems": problems}
        written = {name: path for name, path in lists.items() if path is not None}
        options = TagOptions(only_missing, min_confidence, written, complete)
        for path in (out, *written.values()):
            if not from_stdin and films.exists() and path.exists() and films.samefile(path):
                raise UsageError(f"{path} is the table of films itself; choose another file")
        summary, finished = TagSummary(), resume and not overwrite and is_finished(out, written, films)
        if not finished:
            with contextlib.ExitStack() as stack:
                target = out
                if to_stdout:
                    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mmgcs-"))
                    target = Path(folder, f"out.{out_format.lstrip('.')}")
                check_output(target, resume=resume, overwrite=overwrite, lists=written)
                if from_stdin:
                    films = stack.enter_context(spooled_stdin(f".{stdin_format.lstrip('.')}"))
                    posters = posters or Path.cwd()
                opened = FilmTable(films, posters=posters, delimiter=delimiter, columns=names)
                for notice in () if quiet else opened.notices:
                    say(notice)
                again = {"resume": resume, "overwrite": overwrite}
                summary = _tag_table(opened, target, model, options, to_stdout=to_stdout, quiet=quiet, **again)
        places = {name: str(path) for name, path in {"out": out, **written}.items() if path != STDIO}
    if finished:
        say(f"{out} is finished already; nothing to do (--overwrite tags it again)")
    if as_json:
        print_json({**summary.to_json(), "written": places})
    elif not quiet and not finished:
        for line in [*summary.lines(), *(f"Wrote {path}" for path in places.values())]:
            say(line)
    if summary.in_error:
        raise typer.Exit(3)


def _refuse(ctx: typer.Context, refused: bool, names: Sequence[str], message: str) -> None:
    """If `refused`, raise UsageError for the first of these parameters that is on the command line."""
    for parameter in ctx.command.params if refused else ():
        source = ctx.get_parameter_source(parameter.name or "")
        given = source and source.name == "COMMANDLINE" and ctx.params.get(parameter.name or "") is not False
        name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.opts[0].upper()
        if given and name in names:
            raise UsageError(message.format(name))


def _tag_table(
    table: FilmTable,
    out: Path,
    model: Path | None,
    options: TagOptions,
    *,
    to_stdout: bool,
    quiet: bool,
    resume: bool,
    overwrite: bool,
) -> TagSummary:
    """Tag a table in this process; with `to_stdout`, `out` is a temporary file."""
    from mmgcs.runtime import load
    from mmgcs.tables import WRITERS, RecordBuilder, json_line, table_format
    from mmgcs.tagging import Pipeline, RowSink, check_needed_columns, partial_folder, tag_table

    check_needed_columns(table, options)
    classifier = load(model)
    suffix, compressed = table_format(out)
    if to_stdout and not options.lists and not compressed and WRITERS[suffix] is WRITERS[".jsonl"]:
        records = RecordBuilder(table.columns, classifier.genres)
        sink = RowSink(records, lambda row: sys.stdout.buffer.write(json_line(row)), options)
        with _progress(quiet, table.share) as progress:
            return Pipeline(classifier, options).run(table.chunks(), sink, progress)
    kept = f"what was tagged is kept in {partial_folder(out)}; run the same command with --resume to continue"
    with contextlib.nullcontext() if to_stdout else explain_interrupt(kept), _progress(quiet, table.share) as progress:
        summary = tag_table(
            classifier, table, out, resume=resume, overwrite=overwrite, options=options, progress=progress
        )
    if to_stdout:
        with out.open("rb") as handle:
            shutil.copyfileobj(handle, sys.stdout.buffer)
    return summary


@contextlib.contextmanager
def _progress(quiet: bool, share: Callable[[], float] = lambda: 0.0) -> Iterator[Callable[[TagSummary], None]]:
    """Yield a function that shows a run's progress, unless `quiet`. `share` returns the share of the films read."""
    with progress_bars(lines=30.0, enabled=not quiet) as update:

        def show(summary: TagSummary) -> None:
            read = share()
            total = round(summary.films / read) if read else None
            update("films", summary.films, total, f"{summary.in_error:,} in error")

        yield show
