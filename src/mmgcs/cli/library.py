"""`mmgcs library`: the genres of films in folders, as Jellyfin, Kodi and Emby keep them."""

from __future__ import annotations

import inspect
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from mmgcs.cli.options import AsJson, Model
from mmgcs.cli.output import examples, new_app, say
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

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder that holds the films.", show_default=False)]
MODES = {
    "only-missing": "Films that have genres stay as they are; --add or --replace changes them too",
    "add": "--add adds to the genres that are there and removes none",
    "replace": "--replace removes genres that the model knows and does not predict, also ones written by hand",
}
"""What becomes of the genres that a film has."""
T = TypeVar("T")


def _setting(default: Any, *names: str, **more: Any) -> Any:
    return typer.Option(default, *names, rich_help_panel="What to write", show_default=False, **more)


def _settings(
    only_missing: bool = _setting(False, "--only-missing", help="Fill in films without genres (the default)."),
    add: bool = _setting(False, "--add", help="Add genres to the ones that a film has."),
    replace: bool = _setting(False, "--replace", help="Replace the genres that the model knows; others stay."),
    min_confidence: float | None = _setting(
        None, min=0, max=1, help="The least confidence of a change; without it, the model's own threshold."
    ),
    max_genres: int | None = _setting(None, min=1, metavar="N", help="Add genres only up to N per film."),
    exclude: str | None = _setting(
        None, metavar="GENRE,…", help="Genres that are never written or removed, such as Drama,Romance."
    ),
    element: Literal["genre", "tag"] | None = _setting(None, "--as", help="Write <genre> (the default) or <tag>."),
    names: str | None = _setting(
        None,
        "--names",
        "--vocabulary",
        help="Your names of genres: german, tmdb, imdb, mmimdb, kodi, or a .csv or .json file such as Crime,Krimi.",
    ),
    create_nfo: bool | None = _setting(
        None, "--create-nfo/--no-create-nfo", help="Make an .nfo for films that have none."
    ),
    enrich: str | None = _setting(None, metavar="tmdb", help="Look missing plots and posters up before predicting."),
    save: bool = _setting(False, "--save", help="Remember these options in DIR/.mmgcs/settings.toml."),
) -> tuple[dict[str, Any], bool]:
    """Return the settings that were given on the command line, and whether to remember them."""
    modes = [mode for mode, given in (("only-missing", only_missing), ("add", add), ("replace", replace)) if given]
    if len(modes) > 1:
        raise UsageError(f"--{modes[0]} and --{modes[1]} exclude each other; give one")
    settings = {
        "mode": modes[0] if modes else None,
        "min_confidence": min_confidence,
        "max_genres": max_genres,
        "exclude": None if exclude is None else [name.strip() for name in exclude.split(",") if name.strip()],
        "element": element,
        "names": str(Path(names).resolve()) if names is not None and Path(names).is_file() else names,
        "create_nfo": create_nfo,
        "enrich": enrich,
    }
    return {name: value for name, value in settings.items() if value is not None}, save


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `_settings` after its own; their value is its argument `given`."""
    shared = inspect.signature(_settings, eval_str=True).parameters
    own = [each for each in inspect.signature(command, eval_str=True).parameters.values() if each.name != "given"]

    def call(**values: Any) -> None:
        given = _settings(**{name: values.pop(name) for name in shared})
        command(given=given, **values)

    call.__name__, call.__doc__ = command.__name__, command.__doc__
    parameters = [*own, *shared.values()]
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    )
    return call


@app.command(
    epilog=examples("mmgcs library scan ~/Films --min-confidence 0.6", "mmgcs library scan ~/Films --out review.csv")
)
@_with_settings
def scan(
    ctx: typer.Context,
    given: Any,
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Also write a list to edit, for `library tag --from`.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the list if it exists.")] = False,
    predict: Annotated[bool, typer.Option(help="Predict what would change.")] = True,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """List the films: what each has, what `tag` would change, how sure that is, and why not. Changes no film."""
    library, settings = _open(folder, *given)
    if out is not None:
        from mmgcs.files import check_free

        check_free(out, "--out", overwrite=overwrite)
    report = _Report(library, settings, "scan", review=out is not None)
    report.print(_scan(ctx, library, settings, model, predict), as_json)
    if out is not None:
        from mmgcs.library import REVIEW, write_cells

        write_cells(out, [REVIEW, *report.rows])
        say(f"Wrote {out}: edit its column 'decision', then run mmgcs library tag {folder} --from {out} --apply")
    report.finish()


@app.command(
    epilog=examples("mmgcs library tag ~/Films --apply", "mmgcs library tag ~/Films --from review.csv --apply")
)
@_with_settings
def tag(
    ctx: typer.Context,
    given: Any,
    folder: Folder,
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
    library, settings = _open(folder, *given)
    if review is not None:
        plans = library.decided(review, settings, _films(library))
    else:
        plans = _scan(ctx, library, settings, model, True)
    report = _Report(library, settings, "apply" if apply else "tag")
    if apply:
        with library.lock():
            report.print(library.apply(plans, settings), as_json)
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
    runs = library.runs()  # raises if nothing was tagged
    if list_runs:
        lines = [f"{name}  {_count(count, 'file')}" for name, count in runs.items()] or ["nothing to undo"]
        print(json.dumps({"library": str(folder), "runs": runs}) if as_json else "\n".join(lines))
        return
    with library.lock():
        undone = list(_progress(library.undo(film or (), run=run, force=force, follow=follow_links), "files"))
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


def _open(folder: Path, given: dict[str, Any], save: bool) -> tuple[Library, LibrarySettings]:
    """Open a library; return its settings, with the given ones first."""
    from mmgcs.library import Library, LibrarySettings, load_settings, save_settings

    library = Library(folder)
    kept = load_settings(folder).model_dump(exclude_unset=True)
    if kept:
        say(f"using {folder}/.mmgcs/settings.toml")
    settings = LibrarySettings(**{**kept, **given})
    if save:
        with library.lock():
            say(f"Wrote {save_settings(folder, settings)}")
    return library, settings


def _scan(
    ctx: typer.Context, library: Library, settings: LibrarySettings, model: Path | None, predict: bool
) -> Iterator[Plan]:
    """Return the plans for every film; without `predict`, what the files say."""
    if not predict:
        return library.scan(settings, films=_films(library))
    import mmgcs

    complete = None
    if settings.enrich is not None:
        from mmgcs.tagging import enricher

        complete = enricher(settings.enrich)
        ctx.call_on_close(complete.close)
    return library.scan(settings, mmgcs.load(model), complete, _films(library))


def _films(library: Library) -> Iterator[LibraryFilm]:
    films = list(library.films())
    if not films:
        say(
            f"no film was found in {library.folder}: a film is a video or an .nfo, such as 'Title (Year)/film.mkv' "
            "with 'Title (Year)/movie.nfo' and 'Title (Year)/poster.jpg'; give the folder that holds the films"
        )
    yield from _progress(films, "films", len(films))


def _progress(items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    """Yield the items, with a bar on stderr if that is a terminal."""
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    def bar() -> Iterator[T]:
        # Lines on stdout pass through the bar only if both are one terminal; a file gets them as they are.
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console, both = Console(stderr=True), sys.stdout.isatty()
        with Progress(*columns, console=console, transient=True, redirect_stdout=both) as progress:
            yield from progress.track(items, total)

    return bar()


class _Report:
    """Prints plans as they come and counts what they say."""

    def __init__(self, library: Library, settings: LibrarySettings, command: str, *, review: bool = False) -> None:
        self.library, self.settings, self.command, self.review = library, settings, command, review
        self.rows: list[list[str]] = []
        self.failure: MmgcsError | None = None
        self.statuses: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.added: Counter[str] = Counter()
        self.removed: Counter[str] = Counter()
        self.has: Counter[str] = Counter()

    def print(self, plans: Iterator[Plan], as_json: bool) -> None:
        """Print plans and their summary, as text or as one JSON object, also if the work has to stop."""
        lines = self._json(plans) if as_json else self._text(plans)
        for line in lines:
            print(line)

    def finish(self) -> None:
        """Raise what stopped the work, or exit with 3 if there were errors."""
        if self.failure is not None:
            raise self.failure
        if self.statuses["error"]:
            raise typer.Exit(3)

    def _counted(self, plans: Iterator[Plan]) -> Iterator[Plan]:
        """Yield and count plans, until one fails for a reason that concerns the whole library."""
        try:
            for plan in plans:
                film, present, proposed = plan.film, plan.present, plan.proposed
                self.statuses[plan.status] += 1
                if plan.reason and plan.status not in ("error", "skipped"):
                    self.reasons[plan.reason] += 1
                has = {"nfo": film.nfo, "plot": film.plot, "poster": film.poster, "genres": film.genres}
                self.has.update(name for name, there in has.items() if there)
                if plan.writes:
                    before, after = ({genre.casefold() for genre in genres} for genres in (present, proposed))
                    self.added.update(genre for genre in proposed if genre.casefold() not in before)
                    self.removed.update(genre for genre in present if genre.casefold() not in after)
                if self.review:
                    self.rows.append(self.library.review_row(plan))
                yield plan
        except MmgcsError as error:
            if self.command != "apply":
                raise
            self.failure = error

    def _text(self, plans: Iterator[Plan]) -> Iterator[str]:
        if self.command == "scan":
            yield "plot poster nfo  film"
        for plan in self._counted(plans):
            film = plan.film
            if self.command == "scan":
                marks = ("yes" if there else "-" for there in (film.plot, film.poster, film.nfo))
                path = str(film.path)
                name = path.removeprefix(str(self.library.folder)).lstrip("/\\") or path
                yield "{:4} {:6} {:4} ".format(*marks) + _shown(f"{name}: {_change(plan)}")
            elif plan.writes or plan.reason or plan.status == "unsure":
                yield _shown(f"{film.path}: {_change(plan)}")
        yield ""
        yield from self._summary()

    def _summary(self) -> Iterator[str]:
        if self.command == "scan":
            parts = ", ".join(f"{self.has[name]} with {name}" for name in ("nfo", "plot", "poster", "genres"))
            yield f"{_count(self.statuses.total(), 'film')}: {parts}"
        yield _summary(self.statuses, "film")
        written, mode = self.command == "apply", self.settings.mode
        if self.reasons:
            yield f"Reasons: {_ranked(self.reasons)}"
        what = self.settings.element.capitalize() + "s"
        if self.added:
            yield f"{what} {'added' if written else 'to add'}: {_ranked(self.added)}"
        if self.removed:
            yield f"{what} {'removed' if written else 'to remove'}: {_ranked(self.removed)}"
        changes, folder = self.statuses["change"] + self.statuses["create"], _shown(str(self.library.folder))
        if not written and self.statuses["has genres" if mode == "only-missing" else "change"]:
            yield MODES[mode]
        if self.failure is not None:
            return
        if written and changes:
            yield "Next: refresh the metadata in your media server; mmgcs library undo brings every file back"
        elif self.command == "tag" and changes:
            yield "nothing was written: give --apply to write"
        elif self.command == "scan" and not self.review and (changes or self.statuses["unsure"]):
            yield f"Next: mmgcs library scan {folder} --out review.csv makes a list to edit"
            if changes:
                yield f"      mmgcs library tag {folder} --apply writes the {_count(changes, 'change')}"

    def _json(self, plans: Iterator[Plan]) -> Iterator[str]:
        """Yield one JSON object in pieces, film by film: no plots are kept in memory."""
        head = json.dumps({"library": str(self.library.folder), "applied": self.command == "apply"})
        separator = head[:-1] + ', "films": [\n'
        for plan in self._counted(plans):
            film = plan.film
            value = {
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
            yield separator + json.dumps(value)
            separator = ", "
        counts = {"summary": self.statuses, "reasons": self.reasons, "added": self.added, "removed": self.removed}
        end = json.dumps(counts | ({"error": str(self.failure)} if self.failure else {}))
        yield ("" if separator == ", " else separator) + "], " + end[1:]


def _shown(text: str) -> str:
    # A name that is not UTF-8, or holds a line end, must not break the list.
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\n", "␤").replace("\x1b", "␛")


def _change(plan: Plan) -> str:
    """Return what becomes of a film, in one line."""
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
