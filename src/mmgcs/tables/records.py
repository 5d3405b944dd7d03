"""A film and its prediction as one flat record: the one schema of every output."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mmgcs.film import Film, Prediction

FIXED = ("id", "genres", "probabilities", "error", "warnings", "inputs", "confidence", "sure", "given_genres")
"""The columns of an output, before those kept from the input."""


def record(film: Film, prediction: Prediction, sources: Mapping[str, str]) -> dict[str, Any]:
    """What an output holds of one film.

    Args:
        film: the film as the table gave it.
        prediction: what the classifier says of it.
        sources: the input's columns by film field, as `sources_of` gives them: these columns are kept.
    """
    # A film in error, or one that kept its genres without being predicted, has no confidence.
    unread = prediction.error is not None or not prediction.inputs
    row: dict[str, Any] = {
        "id": film.id,
        "genres": list(prediction.genres),
        "probabilities": dict(prediction.probabilities),
        "error": prediction.error,
        "warnings": list(prediction.warnings),
        "inputs": list(prediction.inputs),
        "confidence": None if unread else prediction.confidence,
        "sure": None if unread else prediction.sure,
        "given_genres": None if film.genres is None else list(film.genres),
    }
    kept: dict[str, Any] = {}
    for field in ("title", "year", "plot", "poster", "split", "labels"):
        value = None if field == "poster" else getattr(film, field)  # a poster's path as it came is among the extras
        if field in sources or value is not None:
            kept[sources.get(field, field)] = value
    kept.update(film.extra)
    for column, value in kept.items():
        # An output that is tagged again must not lose its old answer to the new one.
        row[f"given_{column}" if column in FIXED else column] = plain(value)
    return row


def plain(value: Any) -> Any:
    """The value as JSON can hold it: dates and decimals as text, bytes as a note of their number."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, bytes | bytearray):
        return f"({len(value)} bytes)"
    return str(value)
