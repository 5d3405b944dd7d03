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
        raise UsageError(f"{data} has no films of the split {split!r}; it has {found}; give --split, or --split all")
    return films


def _print_tables(report: Report) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from mmgcs.evaluation import METRIC_NAMES, OVERALL, detailed, show

    # A file or a pipe has no width: give the tables what they need.
    console = Console(width=None if sys.stdout.isatty() else 200)
    counts = report.counts
    left_out = f"{counts.without_genres} without genres and {counts.unreadable} unreadable left out"
    console.print(f"{report.model['name']} on {report.split}: {counts.scored:,} films scored; {left_out}", markup=False)

    shown = [name for name in OVERALL if name in ("micro_f1", "macro_f1", "samples_f1", "mean_average_precision")]
    table = Table(box=SIMPLE_HEAD)
    table.add_column("films")
    for name in ("number", "titles", *(METRIC_NAMES[name] for name in shown), "ECE", "sure", "F1 sure"):
        table.add_column(name, justify="right")
    for condition in report.conditions:
        abstention = condition.abstention
        table.add_row(
            condition.name,
            f"{condition.tuned.films:,}",
            f"{condition.titled:,}" if condition.titled else "none",
            *(show(getattr(condition.tuned, name)) for name in shown),
            f"{condition.tuned.ece_equal_mass:.3f}",
            f"{abstention.sure:.0%}",
            "–" if abstention.sure_micro_f1 is None else f"{abstention.sure_micro_f1:.3f}",
        )
        if condition.baseline is not None:
            scores = condition.baseline.scores
            values = (show(getattr(scores, name)) for name in shown)
            table.add_row("  TF-IDF baseline", "", "", *values, f"{scores.ece_equal_mass:.3f}", "", "", style="dim")
    console.print(table)

    for condition in detailed(report):
        table = Table(box=SIMPLE_HEAD, title=condition.name, title_justify="left")
        table.add_column("genre")
        for name in ("films", "precision", "recall", "F1", "AP"):
            table.add_column(name, justify="right")
        for genre in condition.tuned.genres:
            values = (show(value) for value in (genre.precision, genre.recall, genre.f1, genre.average_precision))
            table.add_row(genre.genre, f"{genre.support:,}", *values)
        console.print(table)
