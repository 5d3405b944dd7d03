"""What becomes of each film: what it has, what would be written, how sure that is, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from mmgcs.errors import UsageError
from mmgcs.film import Film, Prediction
from mmgcs.genres import LABEL_SETS, canonical
from mmgcs.library.names import GenreNames
from mmgcs.library.scan import FilmFiles, LibraryFilm, read_film
from mmgcs.wording import did_you_mean

CHUNK = 64
"""Films that are read and predicted at a time: only seconds pass between reading a file and writing it."""
WRITES = ("change", "create")
"""The statuses of films whose NFO is written."""

Predict = Callable[[Sequence[Film]], list[Prediction]]
Complete = Callable[[list[Film]], list[Film]]


@dataclass(frozen=True, slots=True)
class LibraryOptions:
    """What the user wants written.

    Attributes:
        mode: "only-missing" fills in films without genres, "add" adds to the ones that are there, "replace" replaces
            the ones that the model knows (others are kept: it cannot judge them).
        min_confidence: see `Prediction.reaches`; None for the bundle's own threshold.
        max_genres: genres that a film may have after a change; its own ones are never cut. None for any number.
        exclude: genres that are neither written nor removed.
        create_nfo: create an NFO for films without one.
        element: the NFO's element, "genre" or "tag".
        names: the user's names of genres.
        labels: the genres that the model knows.
    """

    mode: str = "only-missing"
    min_confidence: float | None = None
    max_genres: int | None = None
    exclude: tuple[str, ...] = ()
    create_nfo: bool = False
    element: str = "genre"
    names: GenreNames = field(default_factory=lambda: GenreNames({}))
    labels: tuple[str, ...] = ()

    def excluded(self) -> Collection[str]:
        """Return the excluded genres under our names.

        Raises:
            UsageError: one of them is not a genre.
        """
        known = {canonical(genre) for genres in (self.labels, *LABEL_SETS.values()) for genre in genres}
        found: set[str] = set()
        for genre in self.exclude:
            meaning = self.names.meaning([genre])
            if self.labels and not known.issuperset(meaning):
                hint = did_you_mean(genre, [*self.labels, *known]) or f"the model knows {', '.join(self.labels)}"
                raise UsageError(f"--exclude names {genre!r}, which is not a genre; {hint}")
            found.update(meaning)
        return found

    def present(self, film: LibraryFilm) -> tuple[str, ...]:
        """Return what a film has in the elements that are written."""
        return film.genres if self.element == "genre" else film.tags


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of one film.

    Attributes:
        film: the film.
        status: "change", "create", "same" (has what it should have), "has genres", "locked", "unsure", "no nfo",
            "empty" (neither plot nor poster), "skipped", "not predicted", "not accepted" in a review, or "error".
        present: what its NFO names now.
        proposed: what it names after the change, or would name if the user accepts the prediction; empty without one.
        reason: why nothing is written, or what the prediction lacked, in few words; "" if there is nothing to say.
        notes: what else is odd.
        confidence: of the prediction; None without one.
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
        """Whether the film's NFO is written."""
        return self.status in WRITES

    @property
    def genres(self) -> tuple[str, ...]:
        """What the film's NFO names in the end."""
        return self.proposed if self.writes else self.present


def plan_films(
    places: Iterable[FilmFiles], options: LibraryOptions, predict: Predict | None, complete: Complete | None = None
) -> Iterator[Plan]:
    """Read films and decide on each, in order, a chunk at a time.

    Args:
        places: where the films are.
        options: what the user wants.
        predict: the classifier's `predict_batch`; None to report only what the files say.
        complete: fills in missing plots and posters before predicting.
    """
    excluded = options.excluded()
    remaining = iter(places)
    while chunk := [read_film(place) for place in islice(remaining, CHUNK)]:
        plans = {number: plan for number, film in enumerate(chunk) if (plan := _settled(film, options)) is not None}
        rest = [number for number in range(len(chunk)) if number not in plans]
        if predict is None:
            plans |= {number: _plan(chunk[number], options, "not predicted") for number in rest}
        elif rest:
            films = [chunk[number].to_film() for number in rest]
            if complete is not None:
                films = complete(films)
            given = [(number, film) for number, film in zip(rest, films, strict=True) if film.plot or film.poster]
            predictions = predict([film for _, film in given])
            for (number, _), prediction in zip(given, predictions, strict=True):
                plans[number] = _decide(chunk[number], prediction, options, excluded)
        for number, film in enumerate(chunk):
            yield plans.get(number) or _plan(film, options, "empty", "no plot and no poster")


def merge(
    present: Sequence[str], predicted: Sequence[str], options: LibraryOptions, excluded: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the genres to write: the ones that stay, as they are spelled, then the new ones in the user's names."""
    names = options.names
    meant = {canonical(genre): genre for genre in predicted if canonical(genre) not in excluded}
    stay = list(present)
    if options.mode == "replace":
        labels = {canonical(genre) for genre in options.labels} - set(excluded)
        stay = [
            genre
            for genre in present
            if not (meaning := set(names.meaning([genre]))).isdisjoint(meant) or not meaning <= labels
        ]
    there = set(names.meaning(stay))
    new = [names.own(genre) for ours, genre in meant.items() if ours not in there]
    if options.max_genres is not None:
        new = new[: max(0, options.max_genres - len(stay))]
    # Two of our genres may have one name of the user's.
    return tuple({genre.casefold(): genre for genre in reversed([*stay, *new])}.values())[::-1]


def checked(film: LibraryFilm, options: LibraryOptions, genres: tuple[str, ...], **fields: Any) -> Plan:
    """Return the plan to write `genres`, or why the film's NFO cannot be written; `fields` are more of the plan's."""
    plan = replace(_plan(film, options, "change"), proposed=genres, **fields)
    if film.nfo is None:
        if film.files.new_nfo in film.files.nfos:
            return replace(plan, status="no nfo", reason="its .nfo is not XML; rename it, then use --create-nfo")
        if not options.create_nfo:
            return replace(plan, status="no nfo", reason="no .nfo; --create-nfo makes one")
        return replace(plan, status="create")
    if genres == plan.present:
        return replace(plan, status="same")
    if film.locked or film.protected:
        return replace(plan, status="locked", reason=film.locked or "its .nfo is write-protected")
    if film.names > 1:
        parted = f"hard-linked: its other names ({film.names - 1}) keep the old content, as a file of their own"
        plan = replace(plan, notes=(*plan.notes, parted))
    return plan


def _plan(film: LibraryFilm, options: LibraryOptions, status: str, reason: str = "") -> Plan:
    return Plan(film, status, options.present(film), reason=reason, notes=film.notes)


def _settled(film: LibraryFilm, options: LibraryOptions) -> Plan | None:
    """Return the plan for a film that needs no prediction; None for one that does."""
    if film.problem is not None:
        return _plan(film, options, "error", film.problem)
    if film.skipped is not None:
        return _plan(film, options, "skipped", film.skipped)
    if film.locked is not None:
        return _plan(film, options, "locked", film.locked)
    if film.genres and options.mode == "only-missing":
        return _plan(film, options, "has genres")
    return None


def _decide(film: LibraryFilm, prediction: Prediction, options: LibraryOptions, excluded: Collection[str]) -> Plan:
    if prediction.error is not None:
        return _plan(film, options, "error", prediction.error)
    chosen = [genre for genre in prediction.genres if canonical(genre) not in excluded]
    guess = chosen or [genre for genre in prediction.top(3) if canonical(genre) not in excluded][:1]
    notes = tuple(dict.fromkeys((*film.notes, *prediction.warnings)))
    merged = merge(options.present(film), guess, options, excluded)
    if doubt := _doubt(prediction, options.min_confidence, chosen):
        if not chosen and guess:
            notes = (f"closest: {guess[0]} {prediction.probabilities[guess[0]]:.0%}", *notes)
        plan = _plan(film, options, "unsure", doubt)
        if prediction.strange:  # the reason says what the warnings say
            notes = film.notes
        if film.nfo is None and not options.create_nfo:
            return checked(film, options, merged, notes=(f"unsure: {doubt}", *notes), confidence=prediction.confidence)
        return replace(plan, proposed=merged, notes=notes, confidence=prediction.confidence)
    reason = "no plot: from the poster alone" if prediction.inputs == ("poster",) else ""
    return checked(film, options, merged, reason=reason, notes=notes, confidence=prediction.confidence)


def _doubt(prediction: Prediction, min_confidence: float | None, chosen: Sequence[str]) -> str:
    """Return why a prediction is not written; "" if it is."""
    if not prediction.reaches(min_confidence) and prediction.strange:
        if "plot" not in prediction.strange:
            return "poster unlike a film poster"
        warnings = " ".join(prediction.warnings)
        if "English" in warnings:
            return "plot not in English"
        return "plot in a language the model has not learned" if "language" in warnings else "plot unlike a film's plot"
    if not prediction.genres:
        return "no genre likely enough"
    if not chosen:
        return "only excluded genres likely"
    return "" if prediction.reaches(min_confidence) else "confidence too low"
