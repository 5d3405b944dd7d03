"""`Library`: scan, tag and restore a folder of films. A `Plan` says what will happen to a film, and why."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mmgcs.errors import InputError, UsageError, printable
from mmgcs.film import Film, Prediction
from mmgcs.genres import LABEL_SETS, canonical
from mmgcs.library.nfo import NOT_XML, SEPARATORS, distinct, new_nfo, split_genres, with_values
from mmgcs.library.saved_options import LibrarySettings, load_names, read_cells
from mmgcs.library.scan import LibraryFilm, find_films, read_film
from mmgcs.library.undo import STATE, Backups
from mmgcs.preprocess import UNLEARNED
from mmgcs.wording import did_you_mean

if TYPE_CHECKING:
    from mmgcs.runtime import Classifier

CHUNK = 64
"""Films that are read and predicted at a time: only seconds pass between reading a file and writing it."""
REVIEW = ("path", "title", "year", "has", "genres", "proposed", "confidence", "status", "reason", "decision")
"""The columns of a review."""
ACCEPT = frozenset(("accept", "accepted", "yes", "y", "ok", "x"))
SKIP = frozenset(("", "skip", "skipped", "no", "n", "-"))

Complete = Callable[[list[Film]], list[Film]]
"""Looks up missing plots and posters."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one film.

    Attributes:
        film: the film.
        status: "change", "create", "same" (already correct), "has genres", "locked", "unsure", "no nfo",
            "empty" (neither plot nor poster), "skipped", "not predicted", or "error".
        present: its genres now.
        proposed: its genres after the change, or if the user accepts the prediction; empty without a prediction.
        reason: why nothing is written, or what was missing for the prediction; "" if neither applies.
        notes: other remarks for the user.
        confidence: the prediction's; None without one.
    """

    film: LibraryFilm
    status: str
    present: tuple[str, ...]
    proposed: tuple[str, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()
    confidence: float | None = None

    @property
    def writes(self) -> bool:
        """True if the film's NFO is to be written."""
        return self.status in ("change", "create")


class Undone(NamedTuple):
    """What `Library.undo` did to a file: "restored", "removed", "unchanged", or "error" with a note."""

    path: str
    status: str
    note: str = ""


class Library:
    """A folder of films with NFO files.

    A scan reads the films and plans what would be written; `apply` writes plans; `undo` restores every file byte for
    byte, even if a run was killed.

        library = Library("Films")
        settings = LibrarySettings(mode="add")
        plans = library.scan(settings, mmgcs.load())
        with library.lock():
            for plan in library.apply(plans, settings):
                print(plan.film.title, plan.proposed)

    Attributes:
        folder: the folder.
        backups: the backups and the journal.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UsageError(f"there is no folder {self.folder}; give the folder that holds the films")
        self.backups = Backups(self.folder)

    def films(self) -> Iterator[LibraryFilm]:
        """Yield every film, not yet read."""
        return find_films(self.folder)

    def scan(
        self,
        settings: LibrarySettings,
        classifier: Classifier | None = None,
        complete: Complete | None = None,
        films: Iterable[LibraryFilm] | None = None,
    ) -> Iterator[Plan]:
        """Plan what would be written for each film. Writes nothing.

        Args:
            settings: what to write.
            classifier: predicts genres; None to report only what the files say.
            complete: looks up missing plots and posters before predicting.
            films: films from `films()`; None for all of them.

        Raises:
            UsageError: the settings name an unknown genre or table of names.
        """
        rules = _Rules(settings, () if classifier is None else classifier.genres)
        remaining = iter(self.films() if films is None else films)

        def plans() -> Iterator[Plan]:
            while chunk := [read_film(film) for film in islice(remaining, CHUNK)]:
                yield from _plans(chunk, rules, classifier, complete)

        return plans()

    def decided(
        self, review: Path, settings: LibrarySettings, films: Iterable[LibraryFilm] | None = None
    ) -> Iterator[Plan]:
        """Plan what an edited review says: a list of `review_row`s in which a person filled in the decisions.

        Films of the review that are not in the library become errors.

        Raises:
            UsageError: the review cannot be read, or lacks a column.
        """
        rows = _read_review(review)

        def plans() -> Iterator[Plan]:
            for film in map(read_film, self.films() if films is None else films):
                if found := rows.pop(self._key(film), None):
                    yield _decided(film, found, settings)
            for key, left in rows.items():
                if left.decision.casefold() not in SKIP:
                    path = self.folder / key
                    reason = f"row {left.number} of the review: there is no such film in the library; scan again"
                    yield Plan(LibraryFilm(name=path.name, new_nfo=path), "error", (), reason=reason)

        return plans()

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes from writing to the library. Hold this lock around `apply` and `undo`."""
        return self.backups.lock()

    def apply(self, plans: Iterable[Plan], settings: LibrarySettings) -> Iterator[Plan]:
        """Carry out plans, one after the other.

        Yields:
            The plan, with the status "error" if its file could not be written.

        Raises:
            MmgcsError: nothing more can be written in this library.
        """
        for plan in plans:
            film, genres = plan.film, plan.proposed
            try:
                if plan.status == "change" and film.nfo is not None:
                    edit = partial(with_values, values=genres, name=settings.element)
                    self.backups.write(film.nfo, edit, expected=film.sha256)
                elif plan.status == "create":
                    content = new_nfo(film.title or film.name, film.year, genres, settings.element)
                    self.backups.write(film.new_nfo, content, expected=None)
            except InputError as error:
                plan = replace(plan, status="error", reason=str(error))
            yield plan

    def runs(self) -> dict[str, int]:
        """Return the runs that can be undone, oldest first, with the number of files that each changed.

        Raises:
            UsageError: nothing was tagged here.
        """
        if not (self.folder / STATE).is_dir():
            raise UsageError(f"nothing was tagged in {self.folder}: it has no {STATE}; give the folder that was tagged")
        return self.backups.runs()

    def undo(
        self, films: Sequence[str] = (), *, run: str | None = None, force: bool = False, follow: bool = False
    ) -> Iterator[Undone]:
        """Restore files that runs changed.

        Args:
            films: only these: paths of NFO files or folders, relative to the library or not.
            run: only what this run wrote: its name, the beginning of its name, or "last".
            force: also files that another program has changed in the meantime.
            follow: also files outside the library that a link in it leads to.

        Raises:
            UsageError: there is no such film or run.
        """
        run = None if run is None else self._run_of(run)
        changed = self.backups.writes.items()
        names = [name for name, writes in changed if run is None or run in {write.run for write in writes}]
        for film in films:
            if not any(self._is_in(name, film) for name in names):
                raise UsageError(f"no file of {film!r} was changed; give the path of an .nfo or its folder")
        for name in names:
            if films and not any(self._is_in(name, film) for film in films):
                continue
            try:
                yield Undone(name, self.backups.restore(name, run=run, force=force, follow=follow))
            except InputError as error:
                yield Undone(name, "error", str(error))

    def review_row(self, plan: Plan) -> list[str]:
        """Return a film's row in a review, in the order of `REVIEW`."""
        film = plan.film
        has = [name for name, there in (("plot", film.plot), ("poster", film.poster), ("nfo", film.nfo)) if there]
        return [
            self._key(film),
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

    def _key(self, film: LibraryFilm) -> str:
        """Return a film's path in the library, as it is written in reviews."""
        return printable(film.path.relative_to(self.folder).as_posix()).replace("\\", "/")

    def _run_of(self, name: str) -> str:
        runs = list(self.runs())
        found = [run for run in runs if run == name] or [run for run in runs if run.startswith(name)]
        if name == "last":
            found = runs[-1:]
        if len(found) == 1:
            return found[0]
        raise UsageError(f"{'more than one' if found else 'no'} run {name!r}; known: {', '.join(runs) or 'none'}")

    def _is_in(self, name: str, film: str) -> bool:
        """Return True if the file `name` of the journal is `film`, or in the folder `film`."""
        path = self.folder / name
        with contextlib.suppress(OSError):
            itself = (path.resolve(), path.parent.resolve() / path.name)
            wanted = [(base / film).resolve() for base in (self.folder, Path())]
            return any(one.is_relative_to(two) for one in itself for two in wanted)
        return False


class _Rules:
    """Settings applied to a model.

    Attributes:
        settings: the settings.
        names: the user's names for genres.
        excluded: the genres that are neither written nor removed, by our names.
        labels: the model's other genres, by our names.
    """

    def __init__(self, settings: LibrarySettings, labels: Sequence[str]) -> None:
        self.settings, self.names = settings, load_names(settings.names)
        known = {canonical(genre) for genres in (labels, *LABEL_SETS.values()) for genre in genres}
        self.excluded: set[str] = set()
        for genre in settings.exclude:
            meaning = self.names.meaning([genre])
            if labels and not known.issuperset(meaning):
                hint = did_you_mean(genre, [*labels, *known]) or f"the model knows {', '.join(labels)}"
                raise UsageError(f"--exclude names {genre!r}, which is not a genre; {hint}")
            self.excluded.update(meaning)
        self.labels = {canonical(genre) for genre in labels} - self.excluded

    def merge(self, present: Sequence[str], predicted: Sequence[str]) -> tuple[str, ...]:
        """Return the genres to write: kept ones as they are spelt, then new ones by the user's names.

        >>> _Rules(LibrarySettings(mode="add", names="german"), ()).merge(["Krimi"], ["Crime", "Comedy"])
        ('Krimi', 'Komödie')
        """
        meant, stay = [canonical(genre) for genre in predicted], list(present)
        if self.settings.mode == "replace":
            wrong = self.labels.difference(meant)
            meanings = {genre: self.names.meaning([genre]) for genre in present}
            stay = [genre for genre in present if not meanings[genre] or not wrong.issuperset(meanings[genre])]
        there = self.names.meaning(stay)
        new = [self.names.own(genre) for genre in meant if genre not in there]
        if self.settings.max_genres is not None:
            new = new[: max(0, self.settings.max_genres - len(stay))]
        return distinct([*stay, *new])  # the user may have one name for two of our genres


def _plans(
    films: Sequence[LibraryFilm], rules: _Rules, classifier: Classifier | None, complete: Complete | None
) -> Iterator[Plan]:
    """Yield a plan for each film, in order. All are predicted together."""
    plans = [_settled(film, rules.settings) for film in films]
    if classifier is None:
        for film, plan in zip(films, plans, strict=True):
            yield plan or _plan(film, rules.settings, "not predicted")
        return
    given = [film.to_film() for film, plan in zip(films, plans, strict=True) if plan is None]
    if complete is not None and given:
        given = complete(given)
    predictions = iter(zip(given, classifier.predict_batch(given), strict=True))
    for film, plan in zip(films, plans, strict=True):
        yield plan or _predicted(film, *next(predictions), rules)


def _plan(film: LibraryFilm, settings: LibrarySettings, status: str, reason: str = "") -> Plan:
    present = film.genres if settings.element == "genre" else film.tags
    return Plan(film, status, present, reason=reason, notes=film.notes)


def _settled(film: LibraryFilm, settings: LibrarySettings) -> Plan | None:
    """Return the plan for a film that needs no prediction; None for one that does."""
    for status, reason in (("error", film.problem), ("skipped", film.skipped), ("locked", film.locked)):
        if reason is not None:
            return _plan(film, settings, status, reason)
    if film.genres and settings.mode == "only-missing":
        return _plan(film, settings, "has genres")
    return None


def _predicted(film: LibraryFilm, known: Film, prediction: Prediction, rules: _Rules) -> Plan:
    """Return the plan for a film with a prediction; `known` is what was predicted from."""
    plan = _plan(film, rules.settings, "unsure")
    if not known.plot and not known.poster:
        return replace(plan, status="empty", reason="no plot and no poster")
    if prediction.error is not None:
        return replace(plan, status="error", reason=prediction.error)
    chosen = [genre for genre in prediction.genres if canonical(genre) not in rules.excluded]
    guess = chosen or [genre for genre in prediction.top(3) if canonical(genre) not in rules.excluded][:1]
    doubt = _doubt(prediction, rules.settings.min_confidence, chosen)
    notes = film.notes
    if not doubt or not prediction.strange:  # for a strange input, the doubt says the same as the warnings
        notes = tuple(dict.fromkeys((*notes, *prediction.warnings)))
    reason = doubt or ("no plot: from the poster alone" if prediction.inputs == ("poster",) else "")
    proposed = rules.merge(plan.present, guess)
    plan = replace(plan, proposed=proposed, reason=reason, notes=notes, confidence=prediction.confidence)
    return plan if doubt else _checked(plan, rules.settings)


def _doubt(prediction: Prediction, min_confidence: float | None, chosen: Sequence[str]) -> str:
    """Return why a prediction is not written; "" if it is."""
    if not prediction.reaches(min_confidence) and prediction.strange:
        if "plot" not in prediction.strange:
            return "poster unlike a film poster"
        unlearned = any(UNLEARNED in warning for warning in prediction.warnings)
        return f"plot in {UNLEARNED}" if unlearned else "plot unlike a film's plot"
    if not prediction.genres:
        return "no genre likely enough"
    if not chosen:
        return "only excluded genres likely"
    return "" if prediction.reaches(min_confidence) else "confidence too low"


def _checked(plan: Plan, settings: LibrarySettings) -> Plan:
    """Return the plan that writes the proposed genres, or one that says why nothing is written."""
    film = plan.film
    if film.nfo is None:
        if film.new_nfo in film.nfos:
            return replace(plan, status="no nfo", reason="its .nfo is not XML; rename it, then use --create-nfo")
        if not settings.create_nfo:
            return replace(plan, status="no nfo", reason="needs --create-nfo")
        return replace(plan, status="create")
    if plan.proposed == plan.present:
        return replace(plan, status="same")
    if film.locked:
        return replace(plan, status="locked", reason=film.locked)
    try:  # a dry run must show what `apply` would refuse
        with_values(film.nfo.read_bytes(), plan.proposed, settings.element)
    except InputError as error:
        return replace(plan, status="error", reason=str(error))
    except OSError as error:
        return replace(plan, status="error", reason=f"cannot be read ({error.strerror})")
    notes = plan.notes
    if film.links > 1:
        notes = (*notes, "hard-linked: only this copy changes")
    return replace(plan, status="change", notes=notes)


class _Row(NamedTuple):
    """A row of a review: the film's genres at that time, the proposed ones, and the user's decision."""

    number: int
    genres: str
    proposed: str
    decision: str


def _read_review(path: Path) -> dict[str, _Row]:
    """Return the rows of a review by the films' paths."""
    header, *cells = read_cells(path) or [[]]
    places = {name.strip().casefold(): number for number, name in enumerate(header)}
    if missing := [name for name in ("path", "genres", "proposed", "decision") if name not in places]:
        raise UsageError(f"{path} has no column {missing[0]!r}; give a list that `mmgcs library scan --out` wrote")
    rows: dict[str, _Row] = {}
    for number, values in enumerate(cells, 2):
        cell = {name: values[place] if place < len(values) else "" for name, place in places.items()}
        row = _Row(number, cell["genres"], cell["proposed"], cell["decision"].strip())
        key = cell["path"].replace("\\", "/")
        if rows.setdefault(key, row) is not row:
            raise UsageError(f"{path}: row {rows[key].number} and row {number} name the same film; keep one of them")
    return rows


def _decided(film: LibraryFilm, row: _Row, settings: LibrarySettings) -> Plan:
    """Return the plan for a film and its row in a review."""
    plan = _plan(film, settings, "skipped", film.skipped or "")
    if film.problem:
        return replace(plan, status="error", reason=film.problem)
    try:
        genres = _decision(row, plan.present)
        if not genres or film.skipped:
            return plan
        then = _split(row.genres, plan.present)
        if [genre.casefold() for genre in plan.present] != [genre.casefold() for genre in then]:
            raise InputError(f"row {row.number} of the review: its genres have changed since; scan again")
    except InputError as error:
        return replace(plan, status="error", reason=str(error))
    return _checked(replace(plan, proposed=genres), settings)


def _decision(row: _Row, present: Sequence[str]) -> tuple[str, ...]:
    """Return the genres that a film should get; none to leave it alone.

    Args:
        row: the film's row.
        present: the genres that it has.

    Raises:
        InputError: the decision cannot be carried out.
    """
    number, _, proposed, decision = row
    word = decision.casefold()
    if word in SKIP:
        return ()
    if word in ACCEPT:
        if not proposed.strip():
            raise InputError(f"row {number} accepts a film without proposed genres")
        return tuple(_split(proposed, present))
    if hint := did_you_mean(word, ("accept", "skip")):
        raise InputError(f"row {number} says {decision!r}; {hint}")
    genres = tuple(dict.fromkeys(_split(decision, present)))
    if NOT_XML.search(decision) or not genres:
        raise InputError(f"row {number} says {decision!r}; write accept, skip or genres")
    return genres


def _split(cell: str, present: Iterable[str]) -> list[str]:
    """Return the genres in a cell. A tag that the film has stays whole, such as "paris, france"."""
    tags = sorted(filter(SEPARATORS.search, present), key=len, reverse=True)
    if not tags:
        return split_genres(cell)
    whole = "|".join(map(re.escape, tags))
    parts = re.findall(rf"\s*((?:{whole})(?=\s*(?:{SEPARATORS.pattern}|$))|[^/,|;]+)", cell)
    return [part.strip() for part in parts if part.strip()]
