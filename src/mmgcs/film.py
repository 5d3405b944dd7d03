"""The two values that everything passes along: a film comes in, a prediction goes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Film:
    """What is known of one film. Every field may be missing; a prediction needs a plot or a poster.

    Attributes:
        id: the catalogue's own identifier.
        title: the title, used beside the plot by models that read it.
        year: the year of release.
        plot: the plot in prose.
        poster: a picture file, or the bytes of one.
        genres: the genres that the catalogue gives, in our canonical spelling; None where it gives none.
        split: "train", "valid" or "test" for labelled data.
        labels: the source of `genres` (for example "tmdb" or "imdb"): sources disagree on what a genre is.
        record: the row it was read from, as it came: column to value. Outputs keep it.
        problem: why the film's record could not be read; such a film is reported, never predicted.
        warnings: what was odd about the record, without stopping a prediction.
        place: where the record stands in its source, such as "line 7"; two films are equal wherever they stand.
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

        >>> Film.of({"plot": "A ghost haunts a house.", "poster": "ghost.jpg", "studio": "Ufa"}).record
        {'studio': 'Ufa'}
        """
        if isinstance(value, Film):
            return value
        if not isinstance(value, Mapping):
            return cls(plot=value)
        known = {key: item for key, item in value.items() if key in cls.__slots__}
        if isinstance(known.get("poster"), str):
            known["poster"] = Path(known["poster"])
        return cls(**{"record": {key: item for key, item in value.items() if key not in known}, **known})


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the classifier says of one film.

    Attributes:
        genres: the chosen genres, most probable first; empty where none passes its threshold.
        probabilities: the calibrated probability of every genre, in the bundle's order.
        inputs: which inputs were read, of "plot" and "poster".
        confidence: the expected F1 of `genres` under `probabilities`, between 0 and 1.
        sure: whether `confidence` reaches the bundle's abstention threshold for these inputs, and none is strange.
        possible: the prediction set, most probable first: the genres that the film may have. For 90% of films like the
            held-out ones it holds every true genre; empty where the bundle states no such sets.
        undecided: the genres, chosen or not, that the model leaves open, most likely first: their probability is too
            near to the threshold. The shipped model decides 80% of all questions of "has this film that genre?".
        strange: which of `inputs` are unlike those of the films that the model learned from.
        warnings: what was odd about the input (a plot that was cut, a poster that could not be read).
        error: why there is no prediction; None where there is one.
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
        return {
            "genres": list(self.genres),
            "probabilities": dict(self.probabilities),
            "inputs": list(self.inputs),
            "confidence": self.confidence,
            "sure": self.sure,
            "possible": list(self.possible),
            "undecided": list(self.undecided),
            "strange": list(self.strange),
            "warnings": list(self.warnings),
            "error": self.error,
        }

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
