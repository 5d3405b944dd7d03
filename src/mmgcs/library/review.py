"""A list of films to decide on in a spreadsheet: written by `scan --out`, carried out by `tag --from`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmgcs.errors import UsageError, printable
from mmgcs.library.nfo import NOT_XML, split_genres
from mmgcs.library.plans import LibraryOptions, Plan, checked
from mmgcs.library.scan import FilmFiles, LibraryFilm, read_film
from mmgcs.library.spreadsheet import read_cells

COLUMNS = ("path", "title", "year", "has", "genres", "proposed", "confidence", "status", "reason", "decision")
ACCEPT = frozenset(("accept", "accepted", "yes", "y", "ok", "x"))
SKIP = frozenset(("", "skip", "skipped", "no", "n", "-"))


@dataclass(frozen=True, slots=True)
class ReviewedFilm:
    """A row of a review.

    Attributes:
        row: its number in the file.
        genres: what the film shall have; None to leave it alone.
        before: the genres that the film had at the review.
        problem: why the row cannot be carried out.
    """

    row: int
    genres: tuple[str, ...] | None
    before: tuple[str, ...]
    problem: str | None = None


def review_row(root: Path, plan: Plan) -> list[str]:
    """Return the row of a film, in the order of `COLUMNS`."""
    film = plan.film
    has = [name for name, there in (("plot", film.plot), ("poster", film.files.poster), ("nfo", film.nfo)) if there]
    return [
        row_key(root, film),
        printable(film.title or ""),
        str(film.year or ""),
        "+".join(has),
        ", ".join(plan.present),
        ", ".join(plan.proposed),
        "" if plan.confidence is None else f"{plan.confidence:.2f}",
        plan.status,
        "; ".join(part for part in (plan.reason, *plan.notes) if part),
        "accept" if plan.writes else "",
    ]


def read_review(path: Path) -> dict[str, ReviewedFilm]:
    """Return the decisions in a review that a spreadsheet may have saved, by the films' paths.

    Raises:
        UsageError: the file cannot be read, or lacks a column.
    """
    header, *rows = read_cells(path) or [[]]
    columns = {name.strip().casefold(): number for number, name in enumerate(header)}
    if missing := [name for name in ("path", "genres", "proposed", "decision") if name not in columns]:
        raise UsageError(f"{path} has no column {missing[0]!r}; give a list that `mmgcs library scan --out` wrote")
    decisions: dict[str, ReviewedFilm] = {}
    for number, row in enumerate(rows, 2):
        cells = {name: row[place].strip() if place < len(row) else "" for name, place in columns.items()}
        key = cells["path"].replace("\\", "/")
        decision = _decision(number, cells)
        if key in decisions and decisions[key].genres != decision.genres:
            decision = ReviewedFilm(number, None, (), f"row {number} and row {decisions[key].row} decide differently")
        decisions[key] = decision
    return decisions


def plan_review(places: Iterable[FilmFiles], root: Path, review: Path, options: LibraryOptions) -> Iterator[Plan]:
    """Return the plans for the films of a review, and errors for its films that are not in the library.

    Raises:
        UsageError: the review cannot be read.
    """
    return _plans(places, root, read_review(review), options)


def _plans(
    places: Iterable[FilmFiles], root: Path, decisions: dict[str, ReviewedFilm], options: LibraryOptions
) -> Iterator[Plan]:
    for place in places:
        film = read_film(place)
        decision = decisions.pop(row_key(root, film), None)
        if decision is not None:
            yield _plan(film, decision, options)
    for key, decision in decisions.items():
        if decision.genres is not None or decision.problem:
            path = root / key
            problem = f"row {decision.row} of the review: there is no such film in the library; scan again"
            yield Plan(LibraryFilm(FilmFiles((), path, None, path.name)), "error", (), reason=problem)


def row_key(root: Path, film: LibraryFilm) -> str:
    """Return what a review calls a film: its path in the library."""
    return printable(film.path.relative_to(root).as_posix()).replace("\\", "/")


def _decision(row: int, cells: Mapping[str, str]) -> ReviewedFilm:
    before, proposed, decision = tuple(split_genres(cells["genres"])), cells["proposed"], cells["decision"]
    word = decision.casefold()
    if word in SKIP:
        return ReviewedFilm(row, None, before)
    if word in ACCEPT:
        genres = tuple(split_genres(proposed))
        return ReviewedFilm(
            row, genres, before, None if genres else f"row {row} accepts a film without proposed genres"
        )
    if close := difflib.get_close_matches(word, ("accept", "skip"), cutoff=0.7):
        return ReviewedFilm(row, None, before, f"row {row} says {decision!r}; did you mean {close[0]!r}?")
    genres = tuple(dict.fromkeys(split_genres(decision)))
    if NOT_XML.search(decision) or not genres:
        return ReviewedFilm(row, None, before, f"row {row} says {decision!r}; write accept, skip or genres")
    return ReviewedFilm(row, genres, before)


def _plan(film: LibraryFilm, decision: ReviewedFilm, options: LibraryOptions) -> Plan:
    present = options.present(film)
    if problem := film.problem or decision.problem:
        return Plan(film, "error", present, reason=problem, notes=film.notes)
    if decision.genres is None or film.skipped:
        return Plan(film, "skipped", present, reason=film.skipped or "", notes=film.notes)
    folded = [genre.casefold() for genre in present]
    if folded != [genre.casefold() for genre in decision.before]:
        reason = f"row {decision.row} of the review: its genres were changed since; scan again"
        return Plan(film, "error", present, reason=reason)
    return checked(film, options, decision.genres, notes=film.notes)
