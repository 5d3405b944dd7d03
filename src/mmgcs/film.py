"""The two values that everything works on: `Film`, the input, and `Prediction`, the output."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmgcs.errors import UsageError


@dataclass(frozen=True, slots=True)
class Film:
    """What is known about one film. Every field may be missing; a prediction needs a plot or a poster.

    Attributes:
        id: the catalogue's own identifier.
        title: the title; models that read titles use it together with the plot.
        year: the year of release.
        plot: the plot in prose.
        poster: an image file, or the bytes of one.
        genres: the catalogue's genres in canonical spelling; None if it has none.
        split: "train", "valid" or "test" for labelled data.
        labels: the source of `genres` (for example "tmdb" or "imdb"): sources disagree on what a genre is.
        record: the original row, from column to value. Outputs keep it.
        problem: why the record could not be read; such a film is reported as an error and not predicted.
        warnings: problems of the record that do not prevent a prediction.
        place: where the record is in its source, such as "line 7"; ignored when films are compared.
    """

    id: str = ""
    title: str | None = None
    year: int | None = None
    plot: str | None = None
    poster: Path | bytes | None = None
    genres: tuple[str, ...] | None = None
    split: str | None = None
    labels: str | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None
    warnings: tuple[str, ...] = ()
    place: str = field(default="", compare=False)

    @classmethod
    def of(cls, value: Film | str | Mapping[str, Any]) -> Film:
        """Return a film from a plot, or from a mapping; keys that are not fields of `Film` go to `record`.

        NaN, which pandas uses for a missing value, is None.

        >>> Film.of({"plot": "A ghost haunts a house.", "poster": "ghost.jpg", "studio": "Ufa"}).record
        {'studio': 'Ufa'}
        """
        if isinstance(value, Film):
            return value
        if not isinstance(value, Mapping):
            return cls(plot=None if is_missing(value) else value)
        given = {key: item for key, item in value.items() if key in cls.__slots__}
        known: dict[str, Any] = {key: None if is_missing(item) else item for key, item in given.items()}
        if isinstance(known.get("poster"), str):
            known["poster"] = Path(known["poster"])
        return cls(**{"record": {key: item for key, item in value.items() if key not in known}, **known})


@dataclass(frozen=True, slots=True)
class Prediction:
    """The classifier's answer for one film.

    Attributes:
        genres: the predicted genres, most probable first; empty if none reaches its threshold.
        probabilities: the calibrated probability of every genre, in the bundle's order.
        inputs: the inputs that were used: "plot", "poster" or both.
        confidence: the expected F1 of `genres` under `probabilities`, between 0 and 1.
        sure: True if `confidence` reaches the bundle's threshold for these inputs, and no input is strange.
        possible: the prediction set, most probable first: the genres that the film may have. For 90% of films like the
            held-out ones it contains every true genre. Empty if the bundle has no prediction sets.
        undecided: the genres, predicted or not, whose probability is too close to the threshold to decide, most
            likely first. The shipped model decides 80% of all film-and-genre pairs.
        strange: the inputs that are unlike those of the training films.
        warnings: problems of the input, such as a plot that was cut or a poster that could not be read.
        error: why there is no prediction; None if there is one.
    """

    genres: tuple[str, ...] = ()
    probabilities: Mapping[str, float] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    confidence: float = 0.0
    sure: bool = False
    possible: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as JSON values, with the attributes as keys."""
        values = {name: getattr(self, name) for name in self.__slots__} | {"probabilities": dict(self.probabilities)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def reaches(self, least: float | None) -> bool:
        """Return True if it is sure enough: by the bundle's own threshold, or with at least the confidence `least`.

        With a `least` (0 to 1), a film without genres or with a strange input is never sure enough.
        """
        if least is None:
            return self.sure
        return self.confidence >= least and bool(self.genres) and not self.strange

    def top(self, count: int = 3) -> tuple[str, ...]:
        """Return the `count` most probable genres, chosen or not."""
        ranked = sorted(self.probabilities, key=lambda genre: -self.probabilities[genre])
        return tuple(ranked[:count])


def films_of(films: Iterable[Film | str | Mapping[str, Any]]) -> list[Film]:
    """Return films, each from what `Film.of` reads. Raises UsageError for one film, or for a data frame."""
    if isinstance(films, str | Mapping | Film):  # the items of a text would be its letters
        raise UsageError("this is one film, but a list of films is needed; put it into brackets: [film]")
    if hasattr(films, "columns"):
        raise UsageError(
            'a data frame has to be given as rows: films.to_dict("records") in pandas, films.to_dicts() in polars; '
            "mmgcs.tag reads a whole frame"
        )
    return [Film.of(film) for film in films]


def is_missing(value: Any) -> bool:
    """Return True for None, and for NaN, which pandas uses for a missing value."""
    return value is None or (isinstance(value, float) and math.isnan(value))
