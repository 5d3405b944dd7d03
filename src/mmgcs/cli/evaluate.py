"""`mmgcs evaluate`: measure a bundle on labelled films."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmgcs.cli.options import AsJson, Columns, Data, Model, Overwrite, Posters, parse_columns
from mmgcs.cli.output import examples, new_app, print_json, say
from mmgcs.errors import UsageError
from mmgcs.progress import progress_bars

if TYPE_CHECKING:
    from mmgcs.evaluation import Report
    from mmgcs.film import Film

app = new_app()

GENRES_HELP = "Score only these genres: ten, default, or a list such as Drama,Comedy."
BY_HELP = "Also score the films of each value of a column; can be repeated."


@app.command(
    epilog=examples(
        "mmgcs evaluate --data films.csv --posters posters/",
        "mmgcs evaluate --model runs/mine/bundle --data films.csv --split valid --report report/",
    )
)
def evaluate(
    data: Data,
    model: Model = None,
    posters: Posters = None,
    columns: Columns = None,
    split: Annotated[str, Option(help="The split to score: test, valid, train, or all films.")] = "test",
    genres: Annotated[str | None, Option(help=GENRES_HELP, metavar="NAMES", show_default="all of the model's")] = None,
    by: Annotated[
        list[str] | None, Option(help=BY_HELP, metavar="COLUMN", show_default="cohort and language, if present")
    ] = None,
    baseline: Annotated[bool, Option(help="Compare with TF-IDF + logistic regression fitted on train.")] = True,
    bootstrap: Annotated[int, Option(help="Resamples for the 95% intervals; 0 for none.", min=0)] = 1000,
    report: Annotated[
        Path | None,
        Option(help="A folder for report.json, report.md and report.html.", metavar="DIR", rich_help_panel="Output"),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Measure a model on labelled films: with plot and poster, and with either one hidden."""
    from mmgcs.evaluation import evaluate as measure
    from mmgcs.evaluation import report_paths, write_report
    from mmgcs.files import check_free
    from mmgcs.genres import genre_set
    from mmgcs.labels import label_notes, label_sources
    from mmgcs.runtime import load
    from mmgcs.tables import FilmTable

    for path in report_paths(report) if report is not None else ():
        check_free(path, "--report", overwrite=overwrite)
    classifier = load(model)
    named = parse_columns(columns)
    films = _read(data, posters, split, named)
    sources = label_sources(classifier.bundle.card())
    for line in label_notes([film for part in films.values() for film in part], classifier.genres, sources):
        say(line)
    if split in ("train", "all"):
        say("mmgcs: warning: scores on the training films say little about new films")
    with progress_bars() as progress:
        result = measure(
            classifier,
            films[split],
            # A baseline fitted on the films it is scored on would mean nothing.
            train=films["train"] if baseline and split not in ("train", "all") else (),
            valid=films["valid"] if split != "valid" else (),
            split=split,
            genres=genre_set(genres) if genres else None,
            by=by,
            sources=sources,
            data={"data": data.name, "data SHA-256": FilmTable(data, columns=named).fingerprint()},
            bootstrap=bootstrap,
            progress=progress,
        )
        if report is not None:
            progress("writing the report", 0, 1)
            written = write_report(result, report)
    if report is not None:
        say(f"Wrote {', '.join(map(str, written))}")
    if as_json:
        print_json(result.to_json())
    else:
        _print_report(result)


def _read(data: Path, posters: Path | None, split: str, columns: dict[str, str]) -> dict[str, list[Film]]:
    """Return the table's films by split; raise UsageError if it has no genres, or no film of `split`."""
    from mmgcs.tables import FilmTable

    films: dict[str, list[Film]] = {"train": [], "valid": [], split: []}
    splits: Counter[str] = Counter()
    labelled = False
    table = FilmTable(data, posters=posters, columns=columns)
    for notice in table.notices:
        say(notice)
    for chunk in table.chunks():
        for film in chunk:
            splits[film.split or "no split"] += 1
            labelled = labelled or bool(film.genres)
            if film.split in films:
                films[film.split].append(film)
            if split == "all":
                films["all"].append(film)
    if not labelled:
        table.need_genres()
    if not films[split]:
        found = ", ".join(f"{name} ({count:,})" for name, count in splits.most_common(8)) or "no films at all"
        raise UsageError(
            f"{data} has no films of the split {split!r}; it has {found}; choose one with --split, or --split all for "
            "every film (a model's card has its scores on films held out from training)"
        )
    return films


def _print_report(report: Report) -> None:
    """Print the main sections of the report; --report writes all of them."""
    from rich.console import Console
    from rich.markdown import Markdown

    from mmgcs.evaluation import to_markdown

    # A file or a pipe has no width, so make room for the tables.
    console = Console(width=None if sys.stdout.isatty() else 200)
    head, *sections = to_markdown(report).split("\n## ")
    console.print(Markdown(head))
    for section in sections:
        if section.startswith(("Results", "Calibration", "Knowing", "Genres", "By ")):
            console.print(Markdown(f"## {section}"))
