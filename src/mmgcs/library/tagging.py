"""What a library's films would be tagged with, and the tagging itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from mmgcs.errors import InputError
from mmgcs.film import Film, Prediction
from mmgcs.genres import canonical
from mmgcs.library.backups import Backups
from mmgcs.library.nfo_edit import new_nfo, with_genres
from mmgcs.library.scan import LibraryFilm, Place, read_film
from mmgcs.library.vocabulary import Vocabulary

CHUNK = 64
"""Films that are read and predicted at a time: few seconds pass between reading a file and writing it."""

Predict = Callable[[Sequence[Film]], list[Prediction]]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user wants done.

    Attributes:
        mode: "only-missing" fills in films without genres, "add" adds to those that are there, "replace" replaces
            those that the model knows (genres outside its label set are kept: it cannot judge them).
        min_confidence: what `Prediction.reaches` is asked; None for the bundle's own threshold.
        create: make an NFO for films without one.
        vocabulary: the user's spelling.
        labels: the genres that the model knows.
    """

    mode: str = "only-missing"
    min_confidence: float | None = None
    create: bool = False
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary({}))
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of one film.

    Attributes:
        film: the film.
        status: "change", "create", "same" (has what it should have), "has genres", "locked", "unsure", "no nfo",
            "empty" (neither plot nor poster), "skipped", "not predicted", or "error".
        genres: what its NFO will name; what it names where nothing changes.
        note: why, in words.
        confidence: of the prediction; None where there is none.
    """

    film: LibraryFilm
    status: str
    genres: tuple[str, ...]
    note: str = ""
    confidence: float | None = None


def plan_films(places: Iterable[Place], wishes: Wishes, predict: Predict | None) -> Iterator[Plan]:
    """Read films and decide on each, in order, a chunk at a time.

    Args:
        places: where the films lie.
        wishes: what the user wants.
        predict: the classifier's `predict_batch`; None to tell only what the files say.
    """
    remaining = iter(places)
    while chunk := [read_film(place) for place in islice(remaining, CHUNK)]:
        settled = [_settled(film, wishes) for film in chunk]
        open_films = [film for film, plan in zip(chunk, settled, strict=True) if plan is None]
        predictions = iter(predict([film.to_film() for film in open_films]) if predict and open_films else ())
        for film, plan in zip(chunk, settled, strict=True):
            if plan is not None:
                yield plan
            elif predict is None:
                yield Plan(film, "not predicted", film.genres)
            else:
                yield _decide(film, next(predictions), wishes)


def apply_plan(plan: Plan, backups: Backups) -> Plan:
    """Do what a plan says. Returns the plan, or where its file could not be written one with status "error".

    Raises:
        MmgcsError: nothing more can be written in this library.
    """
    place = plan.film.place
    try:
        if plan.status == "change":
            assert place.nfo is not None
            backups.write(place.nfo, lambda content: with_genres(content, plan.genres), expected=plan.film.sha256)
        elif plan.status == "create":
            title = plan.film.title or place.name
            content = new_nfo(title, plan.film.year, plan.genres)
            backups.write(place.new_nfo, lambda _: content, expected=None)
    except InputError as error:
        return Plan(plan.film, "error", plan.film.genres, str(error), plan.confidence)
    return plan


def _settled(film: LibraryFilm, wishes: Wishes) -> Plan | None:
    """The plan for a film that needs no prediction; None for one that does."""
    if film.problem is not None:
        return Plan(film, "error", film.genres, film.problem)
    if film.skipped is not None:
        return Plan(film, "skipped", film.genres, film.skipped)
    if film.locked is not None:
        return Plan(film, "locked", film.genres, f"<{film.locked}> keeps its genres")
    if film.genres and wishes.mode == "only-missing":
        return Plan(film, "has genres", film.genres)
    if film.plot is None and film.place.poster is None:
        return Plan(film, "empty", film.genres, "nothing to read: no plot and no poster")
    if film.place.nfo is None and not wishes.create:
        return Plan(film, "no nfo", film.genres, "--create-nfo makes one")
    return None


def _decide(film: LibraryFilm, prediction: Prediction, wishes: Wishes) -> Plan:
    if prediction.error is not None:
        return Plan(film, "error", film.genres, prediction.error)
    confidence = prediction.confidence
    note = "; ".join(prediction.warnings)
    if not prediction.reaches(wishes.min_confidence) or not prediction.genres:
        guess = ", ".join(prediction.genres or prediction.top(1))
        return Plan(film, "unsure", film.genres, f"perhaps {guess}", confidence)
    genres = merge(film.genres, prediction.genres, wishes)
    if genres == film.genres:
        return Plan(film, "same", film.genres, note, confidence)
    if film.names > 1:
        parted = f"hard-linked: its other names ({film.names - 1}) keep the old content, as a file of their own"
        note = "; ".join(filter(None, [note, parted]))
    return Plan(film, "change" if film.place.nfo else "create", genres, note, confidence)


def merge(present: Sequence[str], predicted: Sequence[str], wishes: Wishes) -> tuple[str, ...]:
    """The genres to write: those that stay, as the file spells them, then the new ones in the user's spelling."""
    vocabulary = wishes.vocabulary
    meant = {canonical(genre): genre for genre in predicted}
    stay = list(present)
    if wishes.mode == "replace":
        labels = {canonical(genre) for genre in wishes.labels}
        stay = [
            genre
            for genre in present
            if not (meaning := set(vocabulary.meaning([genre]))).isdisjoint(meant) or not meaning <= labels
        ]
    there = set(vocabulary.meaning(stay))
    new = [vocabulary.spell(genre) for ours, genre in meant.items() if ours not in there]
    # Two of our genres may be one of the user's.
    return tuple({genre.casefold(): genre for genre in reversed([*stay, *new])}.values())[::-1]
