"""Rows of an output: the input's columns as they came, then what the model says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmgcs.film import Prediction

ANSWER_COLUMNS = ("genres", "probabilities", "confidence", "sure", "error", "warnings", "inputs")
"""The columns appended to every row."""


class RecordBuilder:
    """Build output rows: the input's columns in their order, then `ANSWER_COLUMNS`.

    An input column that already has the name of one of ours is kept as `given_<name>`, so a table can be tagged again.

    Attributes:
        columns: input column to its name in the output.
        types: the type of each appended column, for `write_table`.
    """

    def __init__(self, columns: Sequence[str], genres: Sequence[str]) -> None:
        self.types: dict[str, Any] = dict.fromkeys(ANSWER_COLUMNS, "texts")
        self.types |= {"probabilities": tuple(genres), "confidence": "float", "sure": "bool", "error": "text"}
        ours = {*ANSWER_COLUMNS, *(f"p_{genre}" for genre in genres)}  # p_<genre> is how CSV has probabilities
        self._taken = {*ours, *columns}
        self.columns = {name: self._free_name(name) if name in ours else name for name in columns}

    def build(self, record: Mapping[str, Any], prediction: Prediction) -> dict[str, Any]:
        """Return the output row of one film."""
        names = self.columns
        for name in record:
            if name not in names:  # lines of JSON may each have other keys
                names[name] = self._free_name(name)
        # A film in error, or one that kept its genres without being predicted, has no confidence.
        predicted = prediction.error is None and bool(prediction.inputs)
        return {
            **{names[name]: value for name, value in record.items()},
            "genres": list(prediction.genres),
            "probabilities": dict(prediction.probabilities),
            "confidence": prediction.confidence if predicted else None,
            "sure": prediction.sure if predicted else None,
            "error": prediction.error,
            "warnings": list(prediction.warnings),
            "inputs": list(prediction.inputs),
        }

    def _free_name(self, name: str) -> str:
        while name in self._taken:
            name = f"given_{name}"
        self._taken.add(name)
        return name


def plain(value: Any) -> Any:
    """Return the value as JSON can hold it: dates and decimals as text, bytes as a note of their length."""
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
