"""`mmgcs library`: tag films in folders, as Jellyfin, Kodi and Emby keep them."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer
from typer import Argument, Option

from mmgcs.cli.options import AsJson, Model, split_list
from mmgcs.cli.output import examples, explain_interrupt, new_app, print_json, progress_bars, say
from mmgcs.errors import MmgcsError, UsageError

if TYPE_CHECKING:
    from mmgcs.library import Library, LibraryFilm, LibrarySettings, Plan

app = new_app(
    "Fill in the genres of films in folders (Jellyfin, Kodi, Emby). Plex ignores NFO files.",
    examples(
        "mmgcs library scan ~/Films",
        "mmgcs library scan ~/Films --out review.csv",
        "mmgcs library tag ~/Films --from review.csv --apply",
        "mmgcs library undo ~/Films",
    ),
)
T = TypeVar("T")

Folder = Annotated[Path, Argument(metavar="DIR", help="The folder that holds the films.")]

# The options that `scan` and `tag` share; `_open` reads them from the context.
_setting = partial(Option, rich_help_panel="What to write")
OnlyMissing = Annotated[bool, _setting("--only-missing", help="Fill in films without genres (the default).")]
Add = Annotated[bool, _setting("--add", help="Add genres to the ones that a film has.")]
Replace = Annotated[bool, _setting("--replace", help="Replace the genres that the model knows; others stay.")]
MinConfidence = Annotated[
    float | None,
    _setting(min=0, max=1, help="Change only films with this confidence or more; default: the model's own threshold."),
]
MaxGenres = Annotated[int | None, _setting(min=1, metavar="N", help="Add genres until a film has N; never remove any.")]
Exclude = Annotated[
    str | None,
    _setting(metavar="GENRE,…", help="Genres that are never written or removed, such as Drama,Romance."),
]
Element = Annotated[Literal["genre", "tag"] | None, _setting("--as", help="Write <genre> (the default) or <tag>.")]
NAMES_HELP = "Your names for genres: german, tmdb, imdb, mmimdb, kodi, or a .csv or .json file such as Crime,Krimi."
Names = Annotated[str | None, _setting("--names", "--vocabulary", help=NAMES_HELP)]
CreateNfo = Annotated[
    bool | None, _setting("--create-nfo/--no-create-nfo", help="Create an .nfo for films without one.")
]
Enrich = Annotated[str | None, _setting(metavar="tmdb", help="Look up missing plots and posters before predicting.")]
Save = Annotated[bool, _setting("--save", help="Remember these options in DIR/.mmgcs/settings.toml.")]

MODES = {
    "only-missing": "Films that have genres stay as they are; --add or --replace changes them too",
    "add": "--add keeps the genres that a film has",
    "replace": "--replace removes genres that the model knows and does not predict, even ones entered by hand",
}
"""What happens to the genres that a film has."""


@app.command(
    epilog=examples("mmgcs library scan ~/Films --min-confidence 0.6", "mmgcs library scan ~/Films --out review.csv")
)
def scan(
    ctx: typer.Context,
    folder: Folder,
    out: Annotated[
        Path | None, Option(metavar="CSV", help="Also write a list to edit, for `library tag --from`.")
    ] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace the list if it exists.")] = False,
    predict: Annotated[bool, Option(help="Predict what would change.")] = True,
    model: Model = None,
    as_json: AsJson = False,
    only_missing: OnlyMissing = False,
    add: Add = False,
    replace: Replace = False,
    min_confidence: MinConfidence = None,
    max_genres: MaxGenres = None,
    exclude: Exclude = None,
    element: Element = None,
    names: Names = None,
    create_nfo: CreateNfo = None,
    enrich: Enrich = None,
    save: Save = False,
) -> None:
    """List the films: what each has, what `tag` would change, how confidently, or why not. Changes no film."""
    from mmgcs.files import check_free
    from mmgcs.library import REVIEW, write_cells

    library, settings = _open(ctx, folder)
    if out is not None:
        check_free(out, "--out", overwrite=overwrite)
    report = _Report(library, settings, "scan")
    rows = [REVIEW]
    report.print(_plans(ctx, library, settings, model, predict), as_json, None if out is None else rows)
    if out is not None:
        write_cells(out, rows)
        call = f"mmgcs library tag {_quoted(folder)} --from {_quoted(out)} --apply"
        say(f"Wrote {out}: edit its column 'decision', then run {call}{report.options}")
    report.finish()


@app.command(
    epilog=examples("mmgcs library tag ~/Films --apply", "mmgcs library tag ~/Films --from review.csv --apply")
)
def tag(
    ctx: typer.Context,
    folder: Folder,
    review: Annotated[
        Path | None, Option("--from", metavar="CSV", help="Apply an edited list of `library scan --out`.")
    ] = None,
    apply: Annotated[bool, Option("--apply", help="Write; without it, only report what would be written.")] = False,
    model: Model = None,
    as_json: AsJson = False,
    only_missing: OnlyMissing = False,
    add: Add = False,
    replace: Replace = False,
    min_confidence: MinConfidence = None,
    max_genres: MaxGenres = None,
    exclude: Exclude = None,
    element: Element = None,
    names: Names = None,
    create_nfo: CreateNfo = None,
    enrich: Enrich = None,
    save: Save = False,
) -> None:
    """Write predicted genres into the films' .nfo files, or without --apply report what would be written."""
    library, settings = _open(ctx, folder)
    if review is not None:
        plans = library.decided(review, settings, _films(library))
    else:
        plans = _plans(ctx, library, settings, model, True)
    report = _Report(library, settings, "apply" if apply else "tag")
    if apply:
        kept = f"what was written is kept; run the same command again, or mmgcs library undo {_quoted(folder)}"
        with library.lock(), explain_interrupt(kept):
            report.print(library.apply(plans, settings), as_json)
    else:
        report.print(plans, as_json)
    report.finish()


@app.command(epilog=examples("mmgcs library undo ~/Films", "mmgcs library undo ~/Films --run last"))
def undo(
    folder: Folder,
    film: Annotated[
        list[str] | None, Option(metavar="PATH", help="Only this film: its folder or .nfo. May be repeated.")
    ] = None,
    run: Annotated[str | None, Option(metavar="RUN", help="Only what this run wrote: last, or its time.")] = None,
    list_runs: Annotated[bool, Option("--list", help="List the runs that can be undone.")] = False,
    force: Annotated[bool, Option("--force", help="Also files that another program has changed since.")] = False,
    follow_links: Annotated[
        bool, Option("--follow-links", help="Also files outside the library that a link in it leads to.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Restore the files that `tag` changed, byte for byte: all, one film's, or one run's."""
    from mmgcs.library import Library

    library = Library(folder)
    runs = library.runs()  # raises if nothing was tagged
    if list_runs:
        if as_json:
            print_json({"library": str(folder), "runs": runs})
        else:
            print("\n".join(f"{name}  {_count(count, 'file')}" for name, count in runs.items()) or "nothing to undo")
        return
    with library.lock():
        undone = list(_tracked(library.undo(film or (), run=run, force=force, follow=follow_links), "files"))
    counts = Counter(one.status for one in undone)
    if as_json:
        files = [{"path": one.path, "status": one.status} | ({"note": one.note} if one.note else {}) for one in undone]
        print_json({"library": str(folder), "files": files, "summary": dict(counts)})
    else:
        for one in undone:
            if one.status == "error":
                print(f"{_shown(one.path)}: {one.note}")
        print(_summary(counts, "file") if undone else "nothing to undo")
    if counts["error"]:
        raise typer.Exit(3)


def _open(ctx: typer.Context, folder: Path) -> tuple[Library, LibrarySettings]:
    """Open a library and return its settings: options on the command line override the saved ones."""
    from mmgcs.library import Library, LibrarySettings, load_library_settings, save_settings

    library, options = Library(folder), ctx.params
    modes = [mode for mode in MODES if options[mode.replace("-", "_")]]
    if len(modes) > 1:
        raise UsageError(f"--{modes[0]} and --{modes[1]} exclude each other; give one")
    given: dict[str, Any] = {name: value for name, value in options.items() if name in LibrarySettings.model_fields}
    given["mode"] = modes[0] if modes else None
    if given["exclude"] is not None:
        given["exclude"] = split_list(given["exclude"])
    if given["names"] is not None and Path(given["names"]).is_file():
        given["names"] = str(Path(given["names"]).resolve())
    saved = load_library_settings(folder).model_dump(exclude_unset=True)
    if saved:
        say(f"using {folder}/.mmgcs/settings.toml")
    settings = LibrarySettings(**{**saved, **{name: value for name, value in given.items() if value is not None}})
    if options["save"]:
        with library.lock():
            say(f"Wrote {save_settings(folder, settings)}")
    return library, settings


def _plans(
    ctx: typer.Context, library: Library, settings: LibrarySettings, model: Path | None, predict: bool
) -> Iterator[Plan]:
    """Plan every film; without `predict`, report only what its files say."""
    if not predict:
        return library.scan(settings, films=_films(library))
    from mmgcs.runtime import load

    complete = None
    if settings.enrich is not None:
        from mmgcs.tagging import enricher

        complete = enricher(settings.enrich)
        ctx.call_on_close(complete.close)
    return library.scan(settings, load(model), complete, _films(library))


def _films(library: Library) -> Iterator[LibraryFilm]:
    films = list(library.films())
    if not films:
        say(
            f"no film was found in {library.folder}: a film is a video or an .nfo, such as 'Title (Year)/film.mkv' "
            "with 'Title (Year)/movie.nfo' and 'Title (Year)/poster.jpg'; give the folder that holds the films"
        )
    yield from _tracked(films, "films", len(films))


def _tracked(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield the items and show the progress."""
    with progress_bars() as update:
        for done, item in enumerate(items):
            update(what, done, total)
            yield item


class _Report:
    """Print plans as they come, and count them for the summary.

    Attributes:
        command: "scan", "tag" for a dry run, or "apply".
        options: a reminder for the next command, if options of this one were not saved.
        failure: the error that stopped the work, or None.
    """

    def __init__(self, library: Library, settings: LibrarySettings, command: str) -> None:
        from mmgcs.library import load_library_settings

        self.library, self.settings, self.command = library, settings, command
        self.options = "" if settings == load_library_settings(library.folder) else " (with the same options)"
        self.failure: MmgcsError | None = None
        self.statuses: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.added: Counter[str] = Counter()
        self.removed: Counter[str] = Counter()
        self.has: Counter[str] = Counter()

    def print(self, plans: Iterator[Plan], as_json: bool, rows: list[Any] | None = None) -> None:
        """Print plans and their summary, even if `apply` has to stop; append each film's review row to `rows`."""
        films = []
        if self.command == "scan" and not as_json:
            print("plot poster nfo  film")
        try:
            for plan in plans:
                self._add(plan)
                if rows is not None:
                    rows.append(self.library.review_row(plan))
                if as_json:
                    films.append(_plan_json(plan))
                elif self.command == "scan" or plan.writes or plan.reason or plan.status == "unsure":
                    print(self._line(plan))
        except MmgcsError as error:
            if self.command != "apply":
                raise
            self.failure = error
        if as_json:
            head = {"library": str(self.library.folder), "applied": self.command == "apply", "films": films}
            counts = {"summary": self.statuses, "reasons": self.reasons, "added": self.added, "removed": self.removed}
            print_json(head | counts | ({"error": str(self.failure)} if self.failure else {}))
        else:
            print("\n".join(["", *self._summary_lines(review=rows is not None)]))

    def finish(self) -> None:
        """Raise the error that stopped the work, or exit with 3 if films are in error."""
        if self.failure is not None:
            raise self.failure
        if self.statuses["error"]:
            raise typer.Exit(3)

    def _add(self, plan: Plan) -> None:
        film, present, proposed = plan.film, plan.present, plan.proposed
        self.statuses[plan.status] += 1
        if plan.reason and plan.status not in ("error", "skipped"):
            self.reasons[plan.reason] += 1
        has = {"nfo": film.nfo, "plot": film.plot, "poster": film.poster, "genres": film.genres}
        self.has.update(name for name, value in has.items() if value)
        if plan.writes:
            before, after = ({genre.casefold() for genre in genres} for genres in (present, proposed))
            self.added.update(genre for genre in proposed if genre.casefold() not in before)
            self.removed.update(genre for genre in present if genre.casefold() not in after)

    def _line(self, plan: Plan) -> str:
        film = plan.film
        if self.command != "scan":
            return _shown(f"{film.path}: {_change(plan)}")
        marks = ("yes" if value else "-" for value in (film.plot, film.poster, film.nfo))
        path = str(film.path)
        name = path.removeprefix(str(self.library.folder)).lstrip("/\\") or path
        return "{:4} {:6} {:4} ".format(*marks) + _shown(f"{name}: {_change(plan)}")

    def _summary_lines(self, *, review: bool) -> Iterator[str]:
        if self.command == "scan":
            parts = ", ".join(f"{self.has[name]} with {name}" for name in ("nfo", "plot", "poster", "genres"))
            yield f"{_count(self.statuses.total(), 'film')}: {parts}"
        yield _summary(self.statuses, "film")
        written, mode = self.command == "apply", self.settings.mode
        what = self.settings.element.capitalize() + "s"
        if self.reasons:
            yield f"Reasons: {_ranked(self.reasons)}"
        if self.added:
            yield f"{what} {'added' if written else 'to add'}: {_ranked(self.added)}"
        if self.removed:
            yield f"{what} {'removed' if written else 'to remove'}: {_ranked(self.removed)}"
        changes, folder = self.statuses["change"] + self.statuses["create"], _quoted(self.library.folder)
        if not written and self.statuses["has genres" if mode == "only-missing" else "change"]:
            yield MODES[mode]
        if written and changes and self.failure is None:
            yield "Next: refresh the metadata in your media server; mmgcs library undo restores every file"
        elif self.command == "tag" and changes:
            yield "nothing was written; use --apply to write"
        elif self.command == "scan" and not review and (changes or self.statuses["unsure"]):
            yield f"Next: mmgcs library scan {folder} --out review.csv{self.options} writes a list to edit"
            if changes:
                yield f"      mmgcs library tag {folder} --apply{self.options} writes the {_count(changes, 'change')}"


def _plan_json(plan: Plan) -> dict[str, Any]:
    film = plan.film
    return {
        "path": str(film.path),
        "title": film.title,
        "year": film.year,
        "has_plot": bool(film.plot),
        "poster": str(film.poster) if film.poster else None,
        "nfo": str(film.nfo) if film.nfo else None,
        "genres": film.genres,
        "status": plan.status,
        "new_genres": plan.proposed if plan.writes else None,
        "proposed": plan.proposed,
        "confidence": plan.confidence,
        "reason": plan.reason or None,
        "note": "; ".join(part for part in (plan.reason, *plan.notes) if part) or None,
    }


def _shown(text: str) -> str:
    # A name that is not UTF-8, or contains control characters, must not garble the terminal.
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", "\N{REPLACEMENT CHARACTER}", text)


def _quoted(path: Path) -> str:
    """Return a path as one word of a command to copy."""
    return shlex.quote(_shown(str(path)))


def _change(plan: Plan) -> str:
    """Return what happens to a film, in one line."""
    present, proposed = ", ".join(plan.present), ", ".join(plan.proposed)
    if plan.confidence is not None:
        proposed += f" ({plan.confidence:.2f})"
    closest = [note for note in plan.notes if note.startswith("closest")]
    notes = [note for note in plan.notes if note not in closest]
    if plan.writes:
        start = "new .nfo: " if plan.status == "create" else f"{present or 'no genres'} → "
        return "; ".join(filter(None, [start + proposed, plan.reason, *notes]))
    said = [] if plan.status == "not predicted" else [": ".join(filter(None, [plan.status, plan.reason]))]
    if plan.status == "unsure":
        said += closest or [f"perhaps {proposed}"]
    elif plan.proposed and plan.proposed != plan.present:
        said.append(f"would be {proposed}")
    shown = "; ".join([*said, *notes])
    return f"{present} ({shown})" if present and shown else present or shown or "no genres"


def _ranked(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _summary(counts: Counter[str], what: str) -> str:
    parts = ", ".join(f"{counts[status]} {status}" for status in sorted(counts))
    return f"{_count(counts.total(), what)}: {parts or 'none'}"
