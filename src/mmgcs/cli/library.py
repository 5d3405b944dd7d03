"""`mmgcs library`: the genres of films in folders, as Jellyfin, Kodi and Emby keep them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from mmgcs.cli.options import AsJson, Model
from mmgcs.cli.output import examples, new_app, say
from mmgcs.errors import MmgcsError, UsageError

if TYPE_CHECKING:
    from mmgcs.library import Complete, FilmFiles, Library, LibraryOptions, LibrarySettings, Plan, Predict

app = new_app(
    "Fill in the genres of films in folders (Jellyfin, Kodi, Emby). Plex ignores NFO files.",
    examples(
        "mmgcs library scan ~/Films",
        "mmgcs library scan ~/Films --out review.csv",
        "mmgcs library tag ~/Films --from review.csv --apply",
        "mmgcs library undo ~/Films",
    ),
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder that holds the films.", show_default=False)]
OnlyMissing = Annotated[
    bool, typer.Option("--only-missing", help="Fill in films without genres (this is the default).")
]
Add = Annotated[bool, typer.Option("--add", help="Add genres to the ones that a film has.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace the genres that the model knows; others stay.")]
MinConfidence = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="The least confidence of a change.", show_default="the model's own threshold"),
]
MaxGenres = Annotated[int | None, typer.Option(min=1, metavar="N", help="Add genres only up to N per film.")]
Exclude = Annotated[
    str | None, typer.Option(metavar="GENRE,…", help="Genres that are never written or removed, such as Drama,Romance.")
]
As = Annotated[str | None, typer.Option("--as", metavar="genre|tag", help="Write <genre> (the default) or <tag>.")]
Names = Annotated[
    str | None,
    typer.Option(
        "--names",
        "--vocabulary",
        help="Your names of genres: german, tmdb, imdb, mmimdb, kodi, or a .csv or .json file such as Crime,Krimi.",
    ),
]
CreateNfo = Annotated[
    bool | None, typer.Option("--create-nfo/--no-create-nfo", help="Make an .nfo for films that have none.")
]
Enrich = Annotated[
    str | None, typer.Option(metavar="tmdb", help="Look missing plots and posters up before predicting.")
]
Save = Annotated[bool, typer.Option("--save", help="Remember these options in DIR/.mmgcs/settings.toml.")]

T = TypeVar("T")


@app.command(
    epilog=examples("mmgcs library scan ~/Films --min-confidence 0.6", "mmgcs library scan ~/Films --out review.csv")
)
def scan(
    ctx: typer.Context,
    folder: Folder,
    only_missing: OnlyMissing = False,
    add: Add = False,
    replace: Replace = False,
    min_confidence: MinConfidence = None,
    max_genres: MaxGenres = None,
    exclude: Exclude = None,
    element: As = None,
    names: Names = None,
    create_nfo: CreateNfo = None,
    enrich: Enrich = None,
    save: Save = False,
    out: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Also write a list to edit, for `library tag --from`.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the list if it exists.")] = False,
    predict: Annotated[bool, typer.Option(help="Predict what would change.")] = True,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """List the films: what each has, what `tag` would change, how sure that is, and why not. Changes no film."""
    given = _given(only_missing, add, replace, min_confidence, max_genres, exclude, element, names, create_nfo, enrich)
    library, settings, options = _open(folder, given, save)
    if out is not None:
        from mmgcs.files import check_free

        check_free(out, "--out", overwrite=overwrite)
    classify, complete, options = _load(ctx, settings, options, model, predict)
    plans = library.scan(options, classify, complete, _progress(_films(library)))
    report = _Report(library, options, "scan", [] if out is not None else None)
    report.print(plans, as_json)
    if out is not None:
        from mmgcs.library import COLUMNS, write_cells

        write_cells(out, [COLUMNS, *(report.rows or [])])
        say(f"Wrote {out}: edit its column 'decision', then run mmgcs library tag {folder} --from {out} --apply")
    report.finish()


@app.command(
    epilog=examples("mmgcs library tag ~/Films --apply", "mmgcs library tag ~/Films --from review.csv --apply")
)
def tag(
    ctx: typer.Context,
    folder: Folder,
    only_missing: OnlyMissing = False,
    add: Add = False,
    replace: Replace = False,
    min_confidence: MinConfidence = None,
    max_genres: MaxGenres = None,
    exclude: Exclude = None,
    element: As = None,
    names: Names = None,
    create_nfo: CreateNfo = None,
    enrich: Enrich = None,
    save: Save = False,
    review: Annotated[
        Path | None, typer.Option("--from", metavar="CSV", help="Do what an edited list of `library scan --out` says.")
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write; without it, only report what would be written.")
    ] = False,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Write predicted genres into the films' .nfo files, or without --apply report what would be written."""
    given = _given(only_missing, add, replace, min_confidence, max_genres, exclude, element, names, create_nfo, enrich)
    library, settings, options = _open(folder, given, save)
    if review is not None:
        plans = library.decided(review, options, _progress(_films(library)))
    else:
        classify, complete, options = _load(ctx, settings, options, model, True)
        plans = library.scan(options, classify, complete, _progress(_films(library)))
    report = _Report(library, options, "apply" if apply else "tag")
    if apply:
        with library.lock():
            report.print(report.until_failure(library.apply(plans, options)), as_json)
    else:
        report.print(plans, as_json)
    report.finish()


@app.command(epilog=examples("mmgcs library undo ~/Films", "mmgcs library undo ~/Films --run last"))
def undo(
    folder: Folder,
    film: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="Only this film: its .nfo or folder. May be repeated.")
    ] = None,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Only what this run wrote: last, or its time.")] = None,
    list_runs: Annotated[bool, typer.Option("--list", help="List the runs that can be undone.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also files that others changed since.")] = False,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Also files outside the library that a link in it leads to.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the files that `tag` changed back as they were, byte for byte: all, one film's, or one run's."""
    from mmgcs.library import Library

    library = Library(folder)
    library.changed()  # raises if nothing was tagged
    if list_runs:
        runs = library.backups.runs()
        if as_json:
            print(json.dumps({"library": str(folder), "runs": runs}))
        else:
            print("\n".join(f"{name}  {_count(count, 'file')}" for name, count in runs.items()) or "nothing to undo")
        return
    with library.lock():
        run = None if run is None else library.run_of(run)
        entries = library.changed(film or (), run)
        undone = list(library.undo(_progress(entries), run=run, force=force, follow=follow_links))
    counts = Counter(one.status for one in undone)
    if as_json:
        files = [{"path": one.path, "status": one.status} | ({"note": one.note} if one.note else {}) for one in undone]
        print(json.dumps({"library": str(folder), "files": files, "summary": dict(counts)}))
    else:
        for one in undone:
            if one.status == "error":
                print(f"{_shown(one.path)}: {one.note}")
        print(_summary(counts, "file") if undone else "nothing to undo")
    if counts["error"]:
        raise typer.Exit(3)


def _given(
    only_missing: bool,
    add: bool,
    replace: bool,
    min_confidence: float | None,
    max_genres: int | None,
    exclude: str | None,
    element: str | None,
    names: str | None,
    create_nfo: bool | None,
    enrich: str | None,
) -> LibrarySettings:
    """Return the options of the command line as settings."""
    from mmgcs.library import LibrarySettings

    modes = [mode for mode, given in (("only-missing", only_missing), ("add", add), ("replace", replace)) if given]
    if len(modes) > 1:
        raise UsageError(f"--{modes[0]} and --{modes[1]} exclude each other; give one")
    if element not in (None, "genre", "tag"):
        raise UsageError(f"--as is {element!r}; give genre or tag")
    return LibrarySettings.model_validate(
        {
            "mode": modes[0] if modes else None,
            "min_confidence": min_confidence,
            "max_genres": max_genres,
            "exclude": None if exclude is None else [name.strip() for name in exclude.split(",") if name.strip()],
            "create_nfo": create_nfo,
            "element": element,
            "names": names,
            "enrich": enrich,
        }
    )


def _open(folder: Path, given: LibrarySettings, save: bool) -> tuple[Library, LibrarySettings, LibraryOptions]:
    """Open a library; return its settings with the given ones, and what they mean."""
    from mmgcs.library import Library, LibraryOptions, load_names, load_settings, save_settings

    library = Library(folder)
    kept = load_settings(folder)
    settings = given.or_else(kept)
    if given != settings:
        say(f"using {folder}/.mmgcs/settings.toml")
    if settings.names is not None and (path := Path(settings.names)).is_file():
        settings = settings.model_copy(update={"names": str(path.resolve())})
    options = LibraryOptions(
        mode=settings.mode or "only-missing",
        min_confidence=settings.min_confidence,
        max_genres=settings.max_genres,
        exclude=settings.exclude or (),
        create_nfo=bool(settings.create_nfo),
        element=settings.element or "genre",
        names=load_names(settings.names),
    )
    if save:
        with library.lock():
            say(f"Wrote {save_settings(folder, settings)}")
    return library, settings, options


def _load(
    ctx: typer.Context, settings: LibrarySettings, options: LibraryOptions, model: Path | None, predict: bool
) -> tuple[Predict | None, Complete | None, LibraryOptions]:
    """Return what predicts, what looks up missing plots, and the options with the genres that the model knows."""
    from dataclasses import replace

    if not predict:
        return None, None, options
    import mmgcs

    complete = None
    if settings.enrich is not None:
        from mmgcs.tagging.enrich import enricher

        complete = enricher(settings.enrich)
        ctx.call_on_close(complete.close)
    classifier = mmgcs.load(model)
    options = replace(options, labels=classifier.genres)
    options.excluded()  # raises for what is not a genre
    return classifier.predict_batch, complete, options


def _films(library: Library) -> list[FilmFiles]:
    films = list(library.films())
    if not films:
        say(
            f"no film was found in {library.folder}: a film is a video or an .nfo, such as 'Title (Year)/film.mkv' "
            "with 'Title (Year)/movie.nfo' and 'Title (Year)/poster.jpg'; give the folder that holds the films"
        )
    return films


def _progress(items: list[T]) -> Iterable[T]:
    """Return the items, with a bar on stderr if that is a terminal."""
    if not sys.stderr.isatty() or len(items) < 50:
        return items
    return _bar(items)


def _bar(items: list[T]) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    # Lines on stdout pass through the bar only if both are one terminal; a file gets them as they are.
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.speed:.0f} films/s"), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as progress:
        yield from progress.track(items, description="films")


class _Report:
    """Prints plans as they come and counts what they say."""

    def __init__(
        self, library: Library, options: LibraryOptions, command: str, rows: list[Sequence[str]] | None = None
    ) -> None:
        self.library, self.options, self.command, self.rows = library, options, command, rows
        self.failure: MmgcsError | None = None
        self.statuses: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.added: Counter[str] = Counter()
        self.removed: Counter[str] = Counter()
        self.has: Counter[str] = Counter()

    def until_failure(self, plans: Iterator[Plan]) -> Iterator[Plan]:
        """Yield plans until one fails for a reason that concerns the whole library."""
        try:
            yield from plans
        except MmgcsError as error:
            self.failure = error

    def print(self, plans: Iterable[Plan], as_json: bool) -> None:
        """Print plans and their summary, as text or as one JSON object."""
        self._print_json(plans) if as_json else self._print_text(plans)

    def finish(self) -> None:
        """Raise what stopped the work, or exit with 3 if there were errors."""
        if self.failure is not None:
            raise self.failure
        if self.statuses["error"]:
            raise typer.Exit(3)

    def _count(self, plan: Plan) -> None:
        from mmgcs.library import review_row

        self.statuses[plan.status] += 1
        if plan.reason:
            self.reasons[plan.reason] += plan.status not in ("error", "skipped")
        film = plan.film
        marks = {"nfo": film.nfo, "plot": film.plot, "poster": film.files.poster, "genres": film.genres}
        self.has.update(name for name, there in marks.items() if there)
        if plan.writes:
            before = {genre.casefold() for genre in plan.present}
            after = {genre.casefold() for genre in plan.genres}
            self.added.update(genre for genre in plan.genres if genre.casefold() not in before)
            self.removed.update(genre for genre in plan.present if genre.casefold() not in after)
        if self.rows is not None:
            self.rows.append(review_row(self.library.folder, plan))

    def _print_text(self, plans: Iterable[Plan]) -> None:
        scan = self.command == "scan"
        if scan:
            print("plot poster nfo  film")
        for plan in plans:
            self._count(plan)
            film = plan.film
            if scan:
                marks = ("yes" if there else "-" for there in (film.plot, film.files.poster, film.nfo))
                print("{:4} {:6} {:4}".format(*marks), f"{self._name(plan)}: {_change(plan)}")
            elif (
                plan.writes or plan.status in ("error", "unsure", "empty", "no nfo") or (plan.reason and plan.proposed)
            ):
                print(f"{_shown(str(film.path))}: {_change(plan)}")
        print()
        print("\n".join(self._summary()))

    def _summary(self) -> Iterator[str]:
        total = self.statuses.total()
        if self.command == "scan":
            parts = ", ".join(f"{self.has[name]} with {name}" for name in ("nfo", "plot", "poster", "genres"))
            yield f"{_count(total, 'film')}: {parts}"
        yield _summary(self.statuses, "film")
        written = self.command == "apply"
        if self.reasons.total():
            yield f"Reasons: {_ranked(self.reasons)}"
        what = self.options.element.capitalize() + "s"
        if self.added:
            yield f"{what} {'added' if written else 'to add'}: {_ranked(self.added)}"
        if self.removed:
            yield f"{what} {'removed' if written else 'to remove'}: {_ranked(self.removed)}"
        changes = self.statuses["change"] + self.statuses["create"]
        if changes and not written and self.options.mode != "only-missing":
            does = (
                "adds to the genres that are there and removes none"
                if self.options.mode == "add"
                else "removes genres that the model knows and does not predict, also ones written by hand; others stay"
            )
            yield f"--{self.options.mode} {does}"
        yield from self._next_steps(changes, written)

    def _next_steps(self, changes: int, written: bool) -> Iterator[str]:
        folder = _shown(str(self.library.folder))
        if self.failure is not None:
            return
        if written and changes:
            yield "Next: refresh the metadata in your media server; mmgcs library undo brings every file back"
        elif self.command == "tag" and changes:
            yield "nothing was written: give --apply to write"
        elif self.command == "scan" and self.rows is None and self.statuses.keys() & {"change", "create", "unsure"}:
            yield f"Next: mmgcs library scan {folder} --out review.csv makes a list to edit"
            if changes:
                yield f"      mmgcs library tag {folder} --apply writes the {_count(changes, 'change')}"

    def _print_json(self, plans: Iterable[Plan]) -> None:
        """Print one JSON object, film by film: no plots are kept in memory."""
        write = sys.stdout.write
        folder = json.dumps(str(self.library.folder))
        write(f'{{"library": {folder}, "applied": {json.dumps(self.command == "apply")}, "films": [')
        for number, plan in enumerate(plans):
            self._count(plan)
            film = plan.film
            value = {
                "path": str(film.path),
                "title": film.title,
                "year": film.year,
                "has_plot": bool(film.plot),
                "poster": str(film.files.poster) if film.files.poster else None,
                "nfo": str(film.nfo) if film.nfo else None,
                "genres": film.genres,
                "status": plan.status,
                "new_genres": plan.genres if plan.writes else None,
                "proposed": plan.proposed,
                "confidence": plan.confidence,
                "reason": plan.reason or None,
                "note": "; ".join(part for part in (plan.reason, *plan.notes) if part) or None,
            }
            write((",\n" if number else "\n") + json.dumps(value))
        end = {
            "summary": self.statuses,
            "reasons": +self.reasons,
            "added": self.added,
            "removed": self.removed,
            **({"error": str(self.failure)} if self.failure else {}),
        }
        write(f"\n], {json.dumps(end)[1:]}\n")

    def _name(self, plan: Plan) -> str:
        path = str(plan.film.path)
        return _shown(path.removeprefix(str(self.library.folder)).lstrip("/\\") or path)


def _shown(text: str) -> str:
    # A name that is not UTF-8, or holds a line end, must not break the list.
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\n", "␤").replace("\x1b", "␛")


def _change(plan: Plan) -> str:
    """Return what becomes of a film, in one line."""
    confidence = "" if plan.confidence is None else f" ({plan.confidence:.2f})"
    present, proposed = ", ".join(plan.present), ", ".join(plan.proposed)
    notes = [note for note in plan.notes if not note.startswith("closest")]
    if plan.writes:
        start = "new .nfo: " if plan.status == "create" else f"{present or 'no genres'} → "
        return _shown("; ".join([f"{start}{proposed}{confidence}", *filter(None, [plan.reason]), *notes]))
    said = "" if plan.status == "not predicted" else plan.status
    if plan.status == "unsure":
        closest = [note for note in plan.notes if note.startswith("closest")]
        said += f": {plan.reason}; " + (closest[0] if closest else f"perhaps {proposed}{confidence}")
    else:
        said += f": {plan.reason}" if plan.reason else ""
        if plan.proposed and plan.proposed != plan.present:
            said += f"; would be {proposed}{confidence}"
    said = "; ".join([said, *notes] if said else notes or ["no genres"] if not present else notes)
    return _shown(f"{present} ({said})" if present and said else present or said)


def _ranked(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common() if count)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _summary(counts: Counter[str], what: str) -> str:
    parts = ", ".join(f"{counts[status]} {status}" for status in sorted(counts))
    return f"{_count(counts.total(), what)}: {parts or 'none'}"
