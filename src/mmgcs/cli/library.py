"""`mmgcs library`: the genres of films in folders, as Jellyfin, Kodi, Emby and Plex keep them."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from mmgcs.cli.output import new_app, say
from mmgcs.errors import InputError, MmgcsError, UsageError

if TYPE_CHECKING:
    from mmgcs.library.backups import Backups
    from mmgcs.library.scan import Place
    from mmgcs.library.tagging import Plan, Predict, Wishes

app = new_app("Fill in the genres of films in folders (Jellyfin, Kodi, Emby, Plex).")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder that holds the films.", show_default=False)]
OnlyMissing = Annotated[
    bool, typer.Option("--only-missing", help="Fill in films without genres (this is the default).")
]
Add = Annotated[bool, typer.Option("--add", help="Add genres to those that a film has.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace the genres that the model knows; others stay.")]
MinConfidence = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="The least confidence of a change.", show_default="the model's own threshold"),
]
VocabularyName = Annotated[
    str | None,
    typer.Option("--vocabulary", help="Your spelling of genres: tmdb, imdb, mmimdb, kodi, or a .json or .csv file."),
]
CreateNfo = Annotated[bool, typer.Option("--create-nfo", help="Make an .nfo for films that have none.")]
Model = Annotated[Path | None, typer.Option(help="A bundle's folder.", show_default="the one in the package")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]

T = TypeVar("T")

CHANGES = ("change", "create")


@app.command()
def scan(
    folder: Folder,
    only_missing: OnlyMissing = False,
    add: Add = False,
    replace: Replace = False,
    min_confidence: MinConfidence = None,
    vocabulary: VocabularyName = None,
    create_nfo: CreateNfo = False,
    predict: Annotated[bool, typer.Option(help="Predict what would change.")] = True,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """List the films: which have a plot, a poster and genres, and what `tag` would change. Writes nothing."""
    classify, wishes = _wishes(only_missing, add, replace, min_confidence, vocabulary, create_nfo, model, predict)
    from mmgcs.library.tagging import plan_films

    places = _places(folder)
    plans = plan_films(_progress(places), wishes, classify)
    counts = _print_json(folder, plans, applied=False) if as_json else _print_table(folder, plans)
    _finish(counts)


@app.command()
def tag(
    folder: Folder,
    only_missing: OnlyMissing = False,
    add: Add = False,
    replace: Replace = False,
    min_confidence: MinConfidence = None,
    vocabulary: VocabularyName = None,
    create_nfo: CreateNfo = False,
    apply: Annotated[bool, typer.Option("--apply", help="Write; without it, only say what would be written.")] = False,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Write predicted genres into the films' .nfo files, or without --apply say which."""
    classify, wishes = _wishes(only_missing, add, replace, min_confidence, vocabulary, create_nfo, model, True)
    from mmgcs.library.backups import Backups
    from mmgcs.library.tagging import plan_films

    failures: list[MmgcsError] = []
    places = _places(folder)
    plans = plan_films(_progress(places), wishes, classify)
    with contextlib.ExitStack() as stack:
        if apply:
            backups = Backups(folder)
            stack.enter_context(backups.lock())
            plans = _applied(plans, backups, failures)
        counts = (
            _print_json(folder, plans, applied=apply, failures=failures)
            if as_json
            else _print_changes(plans, applied=apply)
        )
    if failures and as_json:
        say(f"mmgcs: error: {failures[0]}")  # the one JSON value is printed and holds it too
        raise typer.Exit(failures[0].exit_status)
    if failures:
        raise failures[0]
    _finish(counts)


@app.command()
def undo(
    folder: Folder,
    force: Annotated[bool, typer.Option("--force", help="Also files that were changed by others since.")] = False,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Also files that a link in the library leads to outside of it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring every file that `tag` changed back as it was, byte for byte."""
    from mmgcs.library.backups import Backups
    from mmgcs.library.scan import STATE

    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; give the folder that holds the films")
    if not (folder / STATE).is_dir():
        raise UsageError(f"nothing was tagged in {folder}: it has no {STATE}; give the folder that `tag` was given")
    results: list[dict[str, str]] = []
    backups = Backups(folder)
    with backups.lock():
        for entry in _progress(backups.entries()):
            try:
                results.append({"path": entry.path, "status": backups.restore(entry, force=force, follow=follow_links)})
            except InputError as error:
                results.append({"path": entry.path, "status": "error", "note": str(error)})
    counts = Counter(result["status"] for result in results)
    if as_json:
        print(json.dumps({"library": str(folder), "files": results, "summary": dict(counts)}))
    else:
        for result in results:
            if result["status"] == "error":
                print(f"{_shown(result['path'])}: {result['note']}")
        print(_summary(counts, "file") if results else "nothing to undo")
    _finish(counts)


def _wishes(
    only_missing: bool,
    add: bool,
    replace: bool,
    min_confidence: float | None,
    vocabulary: str | None,
    create: bool,
    model: Path | None,
    predict: bool,
) -> tuple[Predict | None, Wishes]:
    from mmgcs.library.tagging import Wishes
    from mmgcs.library.vocabulary import load_vocabulary

    chosen = [mode for mode, wanted in (("only-missing", only_missing), ("add", add), ("replace", replace)) if wanted]
    if len(chosen) > 1:
        raise UsageError(f"--{chosen[0]} and --{chosen[1]} exclude each other; give one")
    mode = chosen[0] if chosen else "only-missing"
    words = load_vocabulary(vocabulary)
    if not predict:
        return None, Wishes(mode, min_confidence, create, words)
    import mmgcs

    classifier = mmgcs.load(model)
    return classifier.predict_batch, Wishes(mode, min_confidence, create, words, classifier.genres)


def _places(folder: Path) -> list[Place]:
    from mmgcs.library.scan import find_films

    places = list(find_films(folder))
    if not places:
        say(
            f"no film was found in {folder}: a film is a video or an .nfo, such as 'Title (Year)/film.mkv' with "
            "'Title (Year)/movie.nfo' and 'Title (Year)/poster.jpg' beside it; give the folder that holds the films"
        )
    return places


def _progress(items: list[T]) -> Iterable[T]:
    """The items, with a bar on stderr where somebody watches."""
    if not sys.stderr.isatty() or len(items) < 50:
        return items
    return _bar(items)


def _bar(items: list[T]) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:.0f} films/s")

    # Lines on stdout pass through the bar only where both are one terminal; a file gets them as they are.
    columns = (BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as progress:
        yield from progress.track(items, description="films")


def _applied(plans: Iterable[Plan], backups: Backups, failures: list[MmgcsError]) -> Iterator[Plan]:
    """Carry the plans out; stop at the first failure that concerns the whole library, which is left in `failures`."""
    from mmgcs.library.tagging import apply_plan

    for plan in plans:
        try:
            yield apply_plan(plan, backups)
        except MmgcsError as error:
            failures.append(error)
            return


def _print_table(folder: Path, plans: Iterable[Plan]) -> Counter[str]:
    counts: Counter[str] = Counter()
    have: Counter[str] = Counter()
    print("plot poster nfo  film")
    for plan in plans:
        film, there = plan.film, plan.film.place
        marks = (bool(film.plot), there.poster is not None, there.nfo is not None)
        have.update(name for name, mark in zip(("plot", "poster", "nfo"), marks, strict=True) if mark)
        have["genres"] += bool(film.genres)
        counts[plan.status] += 1
        plot, poster, nfo = ("yes" if mark else "-" for mark in marks)
        print(f"{plot:4} {poster:6} {nfo:4} {_name(folder, plan)}: {_change(plan)}")
    total = sum(counts.values())
    print()
    parts = ", ".join(f"{have[name]} with {name}" for name in ("nfo", "plot", "poster", "genres"))
    print(f"{total} film{'' if total == 1 else 's'}: {parts}")
    print(_summary(counts, "film"))
    return counts


def _print_changes(plans: Iterable[Plan], *, applied: bool) -> Counter[str]:
    counts: Counter[str] = Counter()
    for plan in plans:
        counts[plan.status] += 1
        if plan.status in (*CHANGES, "error", "unsure", "empty"):
            print(f"{_shown(str(plan.film.path))}: {_change(plan)}")
    print()
    print(_summary(counts, "film"))
    if not applied and any(counts[status] for status in CHANGES):
        print("nothing was written: give --apply to write")
    return counts


def _print_json(
    folder: Path, plans: Iterable[Plan], *, applied: bool, failures: Sequence[MmgcsError] = ()
) -> Counter[str]:
    """One JSON object, written film by film: of all the films at once only the places are held, no plots."""
    counts: Counter[str] = Counter()
    write = sys.stdout.write
    write(f'{{"library": {json.dumps(str(folder))}, "applied": {json.dumps(applied)}, "films": [')
    for number, plan in enumerate(plans):
        counts[plan.status] += 1
        film = plan.film
        value = {
            "path": str(film.path),
            "title": film.title,
            "year": film.year,
            "has_plot": bool(film.plot),
            "poster": str(film.place.poster) if film.place.poster else None,
            "nfo": str(film.place.nfo) if film.place.nfo else None,
            "genres": film.genres,
            "status": plan.status,
            "new_genres": plan.genres if plan.status in CHANGES else None,
            "confidence": plan.confidence,
            "note": plan.note or None,
        }
        write((",\n" if number else "\n") + json.dumps(value))
    failure = f', "error": {json.dumps(str(failures[0]))}' if failures else ""
    write(f'\n], "summary": {json.dumps(dict(counts))}{failure}}}\n')
    return counts


def _name(folder: Path, plan: Plan) -> str:
    path = str(plan.film.path)
    return _shown(path.removeprefix(str(folder)).lstrip("/\\") or path)


def _shown(text: str) -> str:
    # A name that is not UTF-8, or holds a line end, must not break the list.
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\n", "␤").replace("\x1b", "␛")


def _change(plan: Plan) -> str:
    if plan.status in CHANGES:
        before = ", ".join(plan.film.genres) or "no genres"
        verb = "new .nfo: " if plan.status == "create" else f"{before} → "
        return f"{verb}{', '.join(plan.genres)} ({plan.confidence:.2f})" + (f"; {plan.note}" if plan.note else "")
    reason = (
        f"{plan.status}: {plan.note}" if plan.note else "no genres" if plan.status == "not predicted" else plan.status
    )
    if plan.status == "unsure":
        reason += f" ({plan.confidence:.2f})"
    return f"{', '.join(plan.film.genres)} ({reason})" if plan.film.genres else reason


def _summary(counts: Counter[str], what: str) -> str:
    total = sum(counts.values())
    parts = ", ".join(f"{counts[status]} {status}" for status in sorted(counts))
    return f"{total} {what}{'' if total == 1 else 's'}: {parts or 'none'}"


def _finish(counts: Counter[str]) -> None:
    if counts["error"]:
        raise typer.Exit(3)
