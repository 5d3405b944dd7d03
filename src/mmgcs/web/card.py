"""What a bundle's card says about its data and scores, as the pages show it. Any part of a card may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCORES = {
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "samples_f1": "samples-F1",
    "mean_average_precision": "mean average precision",
}
Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Condition:
    """The scores of films that are judged by the same inputs.

    Attributes:
        name: which films, with which inputs.
        films: their number.
        scores: (name, ours, the baseline's) of each overall score; a score has `value`, `low` and `high`, or is None.
        genres: (genre, support, f1, average_precision) of each genre, by name.
        right: the share of predicted genres that are right (micro precision), if the card says.
        found: the share of true genres that are predicted (micro recall), if the card says.
        abstention: the micro-F1 by the share of films answered, most certain first.
        sure: the share of films that the model is sure of, and their micro-F1, if the card says.
        calibration: the expected calibration error, if the card says.
        precision: for each genre the precision by recall.
        dots: for each genre the recall and precision at its threshold.
        reliability: for each genre the observed share by predicted probability.
    """

    name: str
    films: int
    scores: list[tuple[str, Any, Any]]
    genres: list[dict[str, Any]]
    right: float | None
    found: float | None
    abstention: Points
    sure: tuple[float, float] | None
    calibration: float | None
    precision: dict[str, Points]
    dots: dict[str, tuple[float, float]]
    reliability: dict[str, Points]


def conditions(card: Mapping[str, Any]) -> list[Condition]:
    """Return the card's measurements, one for each combination of inputs."""
    return [_condition(found) for found in part(card, "evaluation").get("conditions", [])]


def _condition(found: Mapping[str, Any]) -> Condition:
    tuned, baseline = part(found, "tuned"), part(found, "baseline", "scores")
    abstention, curves = part(found, "abstention"), part(found, "curves")
    genres, sure = tuned.get("genres", []), (abstention.get("sure"), abstention.get("sure_micro_f1"))
    return Condition(
        name=str(found.get("name", "")),
        films=int(tuned.get("films", 0)),
        scores=[(name, _score(tuned.get(key)), _score(baseline.get(key))) for key, name in SCORES.items()],
        genres=[{**row, **{key: _score(row.get(key)) for key in ("f1", "average_precision")}} for row in genres],
        right=_weighted(genres, "precision", "chosen"),
        found=_weighted(genres, "recall", "support"),
        abstention=[(x, y) for x, y in abstention.get("table", []) if y is not None],
        sure=None if sure[0] is None or sure[1] is None else (sure[0], sure[1]),
        calibration=tuned.get("ece_equal_mass"),
        precision={
            genre: [((index + 1) / len(points), point) for index, point in enumerate(points)]
            for genre, points in part(curves, "precision").items()
            if points
        },
        dots={
            row["genre"]: (row["recall"]["value"], row["precision"]["value"])
            for row in genres
            if _score(row.get("recall")) and _score(row.get("precision"))
        },
        reliability={
            genre: [(predicted, observed) for predicted, observed, _ in bins]
            for genre, bins in part(curves, "reliability").items()
            if bins
        },
    )


def films_by(card: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return the number of test films by genre, decade, plot length and inputs."""
    counts: dict[str, dict[str, int]] = {}
    for group in part(card, "evaluation").get("groups", []):
        counts.setdefault(str(group["kind"]), {})[str(group["name"])] = int(group["films"])
    return counts


def part(value: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """Return the mapping at a path of keys; an empty one if there is none."""
    for key in keys:
        found = value.get(key)
        value = found if isinstance(found, Mapping) else {}
    return value


def _score(found: Any) -> Any:
    complete = isinstance(found, Mapping) and all(found.get(key) is not None for key in ("value", "low", "high"))
    return found if complete else None


def _weighted(genres: list[dict[str, Any]], score: str, weight: str) -> float | None:
    rows = [(part(row, score).get("value"), row.get(weight)) for row in genres]
    known = [(value, number) for value, number in rows if value is not None and number]
    total = float(sum(number for _, number in known))
    return float(sum(value * number for value, number in known)) / total if total else None
