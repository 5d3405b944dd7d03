"""`mmgcs library`: tag films in folders, as Jellyfin, Kodi and Emby keep them."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from mmgcs.cli.options import AsJson, Model, split_list
from mmgcs.cli.output import examples, explain_interrupt, new_app, print_json, say
from mmgcs.errors import MmgcsError, UsageError
from mmgcs.progress import track

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
NAMES_HELP = (
    "Your names for genres: dutch, french, german, italian, portuguese, spanish, imdb, kodi, mmimdb, tmdb, or a .csv "
    "or .json file such as Crime,Krimi."
)
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

    library, settings, reminder = _open(ctx, folder)
    if out is not None:
        check_free(out, "--out", overwrite=overwrite)
    report = _Report(library, settings, "scan", reminder)
    planned = _plans(ctx, library, settings, model, predict)
    _save(ctx, library, settings)
    plans = report.print(planned, as_json, next_step=out is None)
    if out is not None:
        write_cells(out, [REVIEW, *map(library.review_row, plans)])
        call = f"mmgcs library tag {_quoted(folder)} --from {_quoted(out)} --apply"
        say(f"Wrote {out}: edit its column 'decision', then run {call}{reminder}")
    _exit_on_errors(plan.status for plan in plans)


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
    library, settings, reminder = _open(ctx, folder)
    if review is not None:
        plans = library.decided(review, settings, _films(library))
    else:
        plans = _plans(ctx, library, settings, model, True)
    _save(ctx, library, settings)
    report = _Report(library, settings, "apply" if apply else "tag", reminder)
    with contextlib.ExitStack() as stack:
        if apply:
            stack.enter_context(library.lock())
            kept = f"what was written is kept; run the same command again, or mmgcs library undo {_quoted(folder)}"
            stack.enter_context(explain_interrupt(kept))
            plans = library.apply(plans, settings)
        done = report.print(plans, as_json)
    _exit_on_errors(plan.status for plan in done)


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
        undone = list(track(library.undo(film or (), run=run, force=force, follow=follow_links), "files"))
    counts = Counter(one.status for one in undone)
    if as_json:
        files = [{"path": one.path, "status": one.status} | ({"note": one.note} if one.note else {}) for one in undone]
        print_json({"library": str(folder), "files": files, "summary": dict(counts)})
    else:
        for one in undone:
            if one.status == "error":
                print(f"{_shown(one.path)}: {one.note}")
        print(_summary(counts, "file") if undone else "nothing to undo")
    _exit_on_errors(counts)


def _exit_on_errors(statuses: Iterable[str]) -> None:
    if "error" in statuses:
        raise typer.Exit(3)


def _open(ctx: typer.Context, folder: Path) -> tuple[Library, LibrarySettings, str]:
    """Open a library and return its settings: options on the command line override the saved ones.

    Also returns a reminder to give the next command the same options, or "" if they are saved.
    """
    from mmgcs.library import Library, LibrarySettings, load_library_settings

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
    saved = load_library_settings(folder)
    if saved.model_fields_set:
        say(f"using {folder}/.mmgcs/settings.toml")
    given = {name: value for name, value in given.items() if value is not None}
    settings = LibrarySettings(**saved.model_dump(exclude_unset=True) | given)
    repeat = options["model"] is not None or (settings != saved and not options["save"])
    return library, settings, " (with the same options)" if repeat else ""


def _save(ctx: typer.Context, library: Library, settings: LibrarySettings) -> None:
    """Save the settings if --save was given. Call this once they are known to be valid."""
    from mmgcs.library import save_settings

    if ctx.params["save"]:
        with library.lock():
            say(f"Wrote {save_settings(library.folder, settings)}")


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
    yield from track(films, "films", len(films))


class _Report:
    """Print plans as they come, and then a summary.

    Attributes:
        command: "scan", "tag" for a dry run, or "apply".
        reminder: see `_open`.
    """

    def __init__(self, library: Library, settings: LibrarySettings, command: str, reminder: str) -> None:
        self.folder, self.settings, self.command, self.reminder = library.folder, settings, command, reminder

    def print(self, plans: Iterable[Plan], as_json: bool, *, next_step: bool = True) -> list[Plan]:
        """Print plans and their summary, even if `apply` has to stop. Returns the plans."""
        done: list[Plan] = []
        failure: MmgcsError | None = None
        if self.command == "scan" and not as_json:
            print("plot poster nfo  film")
        try:
            for plan in plans:
                done.append(plan)
                if not as_json and (self.command == "scan" or plan.writes or plan.reason or plan.status == "unsure"):
                    print(self._line(plan))
        except MmgcsError as error:
            if self.command != "apply":
                raise
            failure = error
        changes = [plan for plan in done if plan.writes]
        counts = {
            "summary": Counter(plan.status for plan in done),
            "reasons": Counter(plan.reason for plan in done if plan.reason and plan.status not in ("error", "skipped")),
            "added": Counter(genre for plan in changes for genre in _without(plan.proposed, plan.present)),
            "removed": Counter(genre for plan in changes for genre in _without(plan.present, plan.proposed)),
        }
        if as_json:
            films = [_plan_json(plan) for plan in done]
            value = {"library": str(self.folder), "applied": self.command == "apply", "films": films, **counts}
            print_json(value | ({"error": str(failure)} if failure else {}))
            if failure is not None:
                say(f"mmgcs: error: {failure}")
                raise typer.Exit(failure.exit_status)
        else:
            lines = ["", *self._summary_lines(done, counts)]
            if next_step and failure is None:
                lines += self._next_steps(counts["summary"])
            print("\n".join(lines))
            if failure is not None:
                raise failure
        return done

    def _line(self, plan: Plan) -> str:
        film = plan.film
        if self.command != "scan":
            return _shown(f"{film.path}: {_change(plan)}")
        marks = ("yes" if value else "-" for value in (film.plot, film.poster, film.nfo))
        name = film.path if film.path == self.folder else film.path.relative_to(self.folder)
        return "{:4} {:6} {:4} ".format(*marks) + _shown(f"{name}: {_change(plan)}")

    def _summary_lines(self, done: list[Plan], counts: dict[str, Counter[str]]) -> Iterator[str]:
        from mmgcs.genres import TMDB_GENRES, unfamiliar
        from mmgcs.library import load_names

        if self.command == "scan":
            parts = ("nfo", "plot", "poster", "genres")
            has = (f"{sum(bool(getattr(plan.film, part)) for plan in done)} with {part}" for part in parts)
            yield f"{_count(len(done), 'film')}: {', '.join(has)}"
        yield _summary(counts["summary"], "film")
        if counts["reasons"]:
            yield f"Reasons: {_ranked(counts['reasons'])}"
        what, written = f"{self.settings.element.capitalize()}s", self.command == "apply"
        if counts["added"]:
            yield f"{what} {'added' if written else 'to add'}: {_ranked(counts['added'])}"
        if counts["removed"]:
            yield f"{what} {'removed' if written else 'to remove'}: {_ranked(counts['removed'])}"
        names = load_names(self.settings.names).meaning(genre for plan in done for genre in plan.film.genres)
        if misspelt := [f"{name} ({near}?)" for name, near in unfamiliar(names, TMDB_GENRES).items() if near]:
            yield f"Perhaps misspelt, and kept: {', '.join(misspelt)}"
        mode = self.settings.mode
        if not written and counts["summary"]["has genres" if mode == "only-missing" else "change"]:
            yield MODES[mode]

    def _next_steps(self, statuses: Counter[str]) -> Iterator[str]:
        changes, folder = statuses["change"] + statuses["create"], _quoted(self.folder)
        if changes and self.command == "apply":
            yield f"Next: refresh the metadata in your media server; mmgcs library undo {folder} restores every file"
        elif changes and self.command == "tag":
            yield "nothing was written; use --apply to write"
        elif self.command == "scan" and (changes or statuses["unsure"]):
            yield f"Next: mmgcs library scan {folder} --out review.csv{self.reminder} writes a list to edit"
            if changes:
                yield f"      mmgcs library tag {folder} --apply{self.reminder} writes the {_count(changes, 'change')}"


def _without(genres: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return the genres that are not among the others; case does not matter."""
    known = {genre.casefold() for genre in others}
    return [genre for genre in genres if genre.casefold() not in known]


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
    if plan.confidence:  # it is 0 if no genre is likely enough
        proposed += f" ({plan.confidence:.2f})"
    if plan.writes:
        start = "new .nfo: " if plan.status == "create" else f"{present or 'no genres'} → "
        return "; ".join(filter(None, [start + proposed, plan.reason, *plan.notes]))
    said = [] if plan.status == "not predicted" else [": ".join(filter(None, [plan.status, plan.reason]))]
    if plan.status == "unsure" and plan.proposed:
        said.append(f"perhaps {proposed}")
    elif plan.proposed != plan.present and plan.proposed:
        said.append(f"would be {proposed}")
    shown = "; ".join([*said, *plan.notes])
    return f"{present} ({shown})" if present and shown else present or shown or "no genres"


def _ranked(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _summary(counts: Counter[str], what: str) -> str:
    parts = ", ".join(f"{counts[status]} {status}" for status in sorted(counts))
    return f"{_count(counts.total(), what)}: {parts or 'none'}"
