"""What a bundle's card says of its data and its scores, as the pages show it. A card may say less: then so do they."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCORES = {
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "samples_f1": "samples-F1",
    "mean_average_precision": "mean average precision",
}


@dataclass(frozen=True, slots=True)
class Interval:
    """A score and its 95% interval, each 0 to 1."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, found: Any) -> Interval | None:
        """The interval that a card holds; None where it holds none or cannot tell."""
        if not isinstance(found, Mapping) or any(found.get(name) is None for name in ("value", "low", "high")):
            return None
        return cls(found["value"], found["low"], found["high"])


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points, each 0 to 1 in both directions.

    Attributes:
        name: what is drawn upwards.
        points: (across, up) pairs.
    """

    name: str
    points: tuple[tuple[float, float], ...]

    def path(self, width: float, height: float) -> str:
        """The points of an SVG polyline in a box of that size, the origin at the bottom left."""
        return " ".join(f"{x * width:.1f},{(1 - y) * height:.1f}" for x, y in self.points)


@dataclass(frozen=True, slots=True)
class Condition:
    """How well films are judged whose inputs are shown in one way.

    Attributes:
        name: which films, with which inputs.
        films: how many.
        scores: (name, ours, the baseline's) of each overall score.
        genres: (genre, films that have it, F1, average precision).
        abstention: the micro-F1 of the share of films that the model is surest of.
        sure: the share of films that it is sure of, and their micro-F1; None where the card does not say.
        calibration: the expected calibration error; None where the card does not say.
        precision: for each genre its precision by recall; empty where the card has no curves.
        reliability: for each genre the share of films that have it by the probability that was given.
    """

    name: str
    films: int
    scores: tuple[tuple[str, Interval | None, Interval | None], ...]
    genres: tuple[tuple[str, int, Interval | None, Interval | None], ...]
    abstention: Curve
    sure: tuple[float, float] | None
    calibration: float | None
    precision: Mapping[str, Curve]
    reliability: Mapping[str, Curve]


def conditions(card: Mapping[str, Any]) -> list[Condition]:
    """The card's measurements, one for each way of showing films to the model; empty where it has none."""
    return [_condition(found) for found in _mapping(card, "evaluation").get("conditions", [])]


def _condition(found: Mapping[str, Any]) -> Condition:
    tuned, other = _mapping(found, "tuned"), _mapping(_mapping(found, "baseline"), "scores")
    abstention, curves = _mapping(found, "abstention"), _mapping(found, "curves")
    sure = (abstention.get("sure"), abstention.get("sure_micro_f1"))
    return Condition(
        name=str(found.get("name", "")),
        films=int(tuned.get("films", 0)),
        scores=tuple((text, Interval.of(tuned.get(key)), Interval.of(other.get(key))) for key, text in SCORES.items()),
        genres=tuple(
            (row["genre"], int(row["support"]), Interval.of(row.get("f1")), Interval.of(row.get("average_precision")))
            for row in tuned.get("genres", [])
        ),
        abstention=Curve("micro-F1", tuple((x, y) for x, y in abstention.get("table", []) if y is not None)),
        sure=None if sure[0] is None or sure[1] is None else (sure[0], sure[1]),
        calibration=tuned.get("ece_equal_mass"),
        precision={
            genre: Curve("precision", tuple(((at + 1) / len(points), point) for at, point in enumerate(points)))
            for genre, points in _mapping(curves, "precision").items()
            if points
        },
        reliability={
            genre: Curve("films", tuple((predicted, observed) for predicted, observed, _ in bins))
            for genre, bins in _mapping(curves, "reliability").items()
        },
    )


def splits(card: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """For each split the films, and those with a plot and with a poster."""
    return dict(_mapping(_mapping(card, "data"), "splits"))


def sources(card: Mapping[str, Any]) -> Sequence[str]:
    """Where the labels came from, the one whose words the model speaks first."""
    found: Sequence[str] = _mapping(card, "data").get("sources", [])
    return found


def films_by(card: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """The films that the model was measured on, counted by genre, decade, length of the plot and inputs."""
    counts: dict[str, dict[str, int]] = {}
    for group in _mapping(card, "evaluation").get("groups", []):
        counts.setdefault(str(group["kind"]), {})[str(group["name"])] = int(group["films"])
    return counts


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}
