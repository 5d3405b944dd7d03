"""The numbers on the pages about a model: the scores in its card, and the statistics of its training data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgcs.errors import UsageError
from mmgcs.preprocess import LANGUAGES

SCORES = {
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "samples_f1": "samples-F1",
    "mean_average_precision": "mean average precision",
}


def section(value: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """Return the mapping at a path of keys, or an empty one if there is none."""
    for key in keys:
        found = value.get(key)
        value = found if isinstance(found, Mapping) else {}
    return value


def conditions(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the card's measurements as scores.html shows them, for each combination of inputs."""
    return [_condition(found) for found in section(card, "evaluation").get("conditions", [])]


def _condition(found: Mapping[str, Any]) -> dict[str, Any]:
    tuned, abstention = found["tuned"], found["abstention"]
    genres, baseline, curves = tuned["genres"], section(found, "baseline", "scores"), section(found, "curves")
    hits = sum(genre["support"] * genre["recall"]["value"] for genre in genres)
    return {
        "name": found["name"],
        "films": tuned["films"],
        "scores": [(name, _score(tuned[key]), _score(section(baseline, key))) for key, name in SCORES.items()],
        "genres": [{**row, **{key: _score(row[key]) for key in ("f1", "average_precision")}} for row in genres],
        # micro precision and recall
        "right": hits / max(1, sum(genre["chosen"] for genre in genres)),
        "found": hits / max(1, sum(genre["support"] for genre in genres)),
        "abstention": abstention["table"],
        "sure": None if abstention["sure_micro_f1"] is None else (abstention["sure"], abstention["sure_micro_f1"]),
        "calibration": tuned["ece_equal_mass"],
        "precision": {
            genre: [((index + 1) / len(points), point) for index, point in enumerate(points)]
            for genre, points in section(curves, "precision").items()
            if points
        },
        "dots": {row["genre"]: (row["recall"]["value"], row["precision"]["value"]) for row in genres if row["chosen"]},
        "reliability": {
            name: [one[:2] for one in bins] for name, bins in section(curves, "reliability").items() if bins
        },
    }


def _score(found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return found if found.get("low") is not None else None


def films_by(card: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return the number of test films by genre, decade, plot length, inputs and other columns."""
    counts: dict[str, dict[str, int]] = {}
    for group in section(card, "evaluation").get("groups", []):
        name = LANGUAGES.get(group["name"], group["name"]) if group["kind"] == "language" else group["name"]
        counts.setdefault(group["kind"], {})[name] = group["films"]
    films = section(card, "evaluation", "counts").get("scored", 0)
    for row in counts.values():
        if (others := films - sum(row.values())) > 0:
            row["not stated, or few"] = others
    return counts


def inspected_films(path: str, card: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the statistics in the file at `path`, as data.html shows them.

    Without a path, return the shipped ones if they are of the card's training data, otherwise None.

    Raises:
        UsageError: the file is not what `mmgcs data inspect --json` prints.
    """
    if not path:
        # The statistics of the default bundle's training data, and the SHA-256 of its table.
        shipped = json.loads(Path(__file__).with_name("default_films.json").read_bytes())
        return _chart(shipped["summary"]) if section(card, "data").get("sha256") == shipped["sha256"] else None
    try:
        return _chart(json.loads(Path(path).read_bytes()))
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        problem = f"{path} is not the output of mmgcs data inspect FILMS --json ({error!r})"
        raise UsageError(f"MMGCS_DATA: {problem}") from None


def _chart(summary: dict[str, Any]) -> dict[str, Any]:
    genres, together = dict(summary["genres"]), summary["together"]
    lengths = {int(words): count for words, count in summary["lengths"].items()}
    return {
        **{name: dict(summary[name]) for name in ("genres_per_film", "missing", "duplicates")},
        "films": int(summary["films"]),
        "genres": genres,
        "decades": {f"{decade}s": int(count) for decade, count in summary["years"].items()},
        # in steps of ten without a gap
        "words": {str(step): lengths.get(step, 0) for step in range(0, max(lengths, default=0) + 1, 10)},
        # of 100 films with the row's genre, how many also have the column's
        "shares": {
            genre: [
                None if row == column else round(100 * together[row][column] / max(1, films))
                for column in range(len(genres))
            ]
            for row, (genre, films) in enumerate(genres.items())
        },
    }
