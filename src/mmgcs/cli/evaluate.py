"""`mmgcs evaluate`: measure a bundle on labelled films."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmgcs.cli.options import AsJson, Columns, Data, Model, Overwrite, Posters, parse_columns
from mmgcs.cli.output import examples, new_app, print_json, progress_bars, say
from mmgcs.errors import UsageError

if TYPE_CHECKING:
    from mmgcs.evaluation import Report
    from mmgcs.film import Film


app = new_app("Measure a bundle on labelled films.")


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
    split: Annotated[str, typer.Option(help="The split to score: test, valid, train, or all films.")] = "test",
    genres: Annotated[
        str | None,
        typer.Option(
            help="Score only these genres: ten, default, or a list such as Drama,Comedy.",
            metavar="NAMES",
            show_default="all of the model's",
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="Also score the films of each value of a column; can be repeated.",
            metavar="COLUMN",
            show_default="cohort and language, if there are such columns",
        ),
    ] = None,
    baseline: Annotated[bool, typer.Option(help="Compare with TF-IDF + logistic regression fitted on train.")] = True,
    bootstrap: Annotated[int, typer.Option(help="Resamples for the 95% intervals; 0 for none.", min=0)] = 1000,
    report: Annotated[
        Path | None,
        typer.Option(
            help="A folder for report.json, report.md and report.html.",
            metavar="DIR",
            show_default=False,
            rich_help_panel="Output",
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Measure a model on labelled films: with plot and poster, and with either one hidden."""
    from mmgcs.evaluation import evaluate as measure
    from mmgcs.files import check_free
    from mmgcs.genres import genre_set
    from mmgcs.labels import label_notes
    from mmgcs.runtime import load
    from mmgcs.tables import FilmTable

    if report is not None:
        from mmgcs.evaluation import report_paths

        for path in report_paths(report):
            check_free(path, "--report", overwrite=overwrite)
    classifier = load(model)
    named = parse_columns(columns)
    films = _read(data, posters, split, named)
    for line in label_notes([film for part in films.values() for film in part], classifier.genres):
        say(line)
    if split in ("train", "all"):
        say("mmgcs: warning: scores on films that the model was trained on say little about new films")
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
            data={"data": data.name, "data SHA-256": FilmTable(data, columns=named).fingerprint()},
            bootstrap=bootstrap,
            progress=progress,
        )
        if report is not None:
            from mmgcs.evaluation import write_report

            progress("writing the report", 0, 1)
            written = write_report(result, report)
            progress("writing the report", 1, 1)
    if report is not None:
        say(f"wrote {', '.join(map(str, written))}")
    if as_json:
        print_json(result.to_json())
    else:
        _print_tables(result)


def _read(data: Path, posters: Path | None, split: str, columns: dict[str, str]) -> dict[str, list[Film]]:
    """Return the table's films by split, with the ones to score under `split`.

    Raises:
        UsageError: the table cannot be read, has no column of genres, or has no film in `split`.
    """
    from mmgcs.tables import need_column, read_films

    films: dict[str, list[Film]] = {"train": [], "valid": [], split: []}
    splits: Counter[str] = Counter()
    labelled = False
    for chunk in read_films(data, posters=posters, columns=columns, notify=say):
        for film in chunk:
            splits[film.split or "no split"] += 1
            labelled = labelled or bool(film.genres)
            if film.split in films:
                films[film.split].append(film)
            if split == "all":
                films["all"].append(film)
    if not labelled:
        need_column(data, "genres", columns)
    if not films[split]:
        found = ", ".join(f"{name} ({count:,})" for name, count in splits.most_common(8)) or "no films at all"
        raise UsageError(
            f"{data} has no films of the split {split!r}; it has {found}; choose one with --split, or --split all for "
            "every film (a model's card has the scores of the films held out from its training)"
        )
    return films


def _print_tables(report: Report) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from mmgcs.evaluation import OVERALL, detailed, show
    from mmgcs.wording import METRIC_NAMES

    # A file or a pipe has no width: give the tables what they need.
    console = Console(width=None if sys.stdout.isatty() else 200)
    counts = report.counts
    left_out = f"{counts['without_genres']} without genres and {counts['unreadable']} unreadable left out"
    console.print(
        f"{report.model['name']} on {report.split}: {counts['scored']:,} films scored; {left_out}", markup=False
    )

    def table(title: str | None, first: str, *others: str) -> Table:
        made = Table(first, box=SIMPLE_HEAD, title=title, title_justify="left")
        for name in others:
            made.add_column(name, justify="right")
        return made

    shown = [name for name in OVERALL if name != "weighted_f1"]
    found = table(None, "films", "number", "titles", *(METRIC_NAMES[name] for name in shown), "ECE", "sure", "F1 sure")
    for condition in report.conditions:
        sure, f1 = condition.abstention["sure"], condition.abstention["sure_micro_f1"]
        found.add_row(
            condition.name,
            f"{condition.tuned.films:,}",
            f"{condition.titled:,}" if condition.titled else "none",
            *(show(getattr(condition.tuned, name)) for name in shown),
            f"{condition.tuned.ece_equal_mass:.3f}",
            f"{sure:.0%}",
            "–" if f1 is None else f"{f1:.3f}",
        )
        if condition.baseline is not None:
            scores = condition.baseline.scores
            values = (show(getattr(scores, name)) for name in shown)
            found.add_row("  TF-IDF baseline", "", "", *values, f"{scores.ece_equal_mass:.3f}", "", "", style="dim")
    console.print(found)

    for column in report.by:
        found = table(
            f"by {column}, of {report.conditions[0].name}", column, "films", "micro-F1", "macro-F1", "mAP", "sure"
        )
        for group in report.groups:
            if group.kind == column and group.macro_f1 and group.mean_average_precision:
                values = (show(value) for value in (group.f1, group.macro_f1, group.mean_average_precision))
                found.add_row(group.name, f"{group.films:,}", *values, f"{group.sure:.0%}")
        console.print(found)

    for condition in detailed(report):
        found = table(condition.name, "genre", "films", "precision", "recall", "F1", "AP")
        for genre in condition.tuned.genres:
            values = (show(value) for value in (genre.precision, genre.recall, genre.f1, genre.average_precision))
            found.add_row(genre.genre, f"{genre.support:,}", *values)
        console.print(found)
