"""Plain messages for validation errors, suggestions for misspelt names, and the names of metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

METRIC_NAMES = {
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "samples_f1": "samples-F1",
    "weighted_f1": "weighted-F1",
    "mean_average_precision": "mAP",
}
"""The names of the overall metrics in reports."""

MAIN_METRICS = {name: METRIC_NAMES[name] for name in ("micro_f1", "macro_f1", "mean_average_precision")}
"""The metrics that model cards show first."""

_WORDS = {
    r"^Value error, ": "",
    r"^Input should be ": "must be ",
    r"^(?:String|List|Tuple|Dictionary|Data) should have ": "must have ",
    r"^Field required$": "is missing",
    r", (?:unable to|got a) .*$": "",
    r" after validation, not \d+$": "",
    r"\ba valid (?:dictionary|object)\b.*$": "an object of keys and values",
    r"\ba valid string\b": "text",
    r"\ba valid integer\b": "a whole number",
    r"\ba valid boolean\b": "true or false",
    r"\ba valid ": "a ",
    r"\bgreater than or equal to\b": "at least",
    r"\bless than or equal to\b": "at most",
    r"\bgreater than\b": "above",
    r"\bless than\b": "below",
}
"""Patterns in pydantic's messages, and our words for them; applied in this order."""


def plain(text: str) -> str:
    """Rewrite one of pydantic's messages in plain words.

    >>> plain("Input should be a valid integer, unable to parse string as an integer")
    'must be a whole number'
    """
    for theirs, ours in _WORDS.items():
        text = re.sub(theirs, ours, text)
    return text


def refusals(error: ValidationError, model: type[BaseModel], noun: str) -> list[tuple[str, str]]:
    """Return every place that failed validation, such as "films.0.id" ("" for the whole value), and the reason.

    The reason for an unknown field suggests the nearest one and lists them all.

    Args:
        error: what pydantic raised.
        model: the model that was validated.
        noun: what to call a field, such as "setting".
    """
    places: dict[tuple[int | str, ...], list[Any]] = {}
    for found in error.errors(include_url=False, include_context=False):
        places.setdefault(tuple(_place(found["loc"])), []).append(found)
    return [
        (".".join(str(part)[:60] for part in parts), _what(parts, found, model, noun))
        for parts, found in places.items()
    ]


def _what(parts: tuple[int | str, ...], found: list[Any], model: type[BaseModel], noun: str) -> str:
    first, *others = found
    if first["type"] == "extra_forbidden":
        names = _fields(model, parts[:-1])
        meant = did_you_mean(str(parts[-1]), names)
        return f"there is no such {noun}; {meant + ' ' if meant else ''}known: {', '.join(names)}"
    what, value = plain(first["msg"]), first["input"]
    if not what.startswith("must be "):
        return what
    for other in others:  # the branches of a union
        what += f", or {plain(other['msg']).removeprefix('must be ')}"
    if value is None or isinstance(value, str | int | float):
        what += f", not {json.dumps(value if not isinstance(value, str) else value[:40], ensure_ascii=False)}"
    return what


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return the question "did you mean …?" with the nearest of `names`; "" if none is near.

    >>> did_you_mean("plto", ["plot", "poster"]), did_you_mean("x", ["plot"])
    ("did you mean 'plot'?", '')
    """
    import difflib  # only for errors

    close = difflib.get_close_matches(name, list(names), n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def _place(parts: Iterable[int | str]) -> list[int | str]:
    """Return a location without the parts that pydantic adds for members of a union."""
    return [part for part in parts if isinstance(part, int) or not re.search(r"[\[(]", part)]


def _fields(model: type[BaseModel], place: Iterable[Any]) -> list[str]:
    """Return the fields of the nested model at `place`; list indices and dictionary keys are skipped."""
    for part in place:
        if part in model.model_fields:
            model = next(_models(model.model_fields[part].annotation), model)
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[Any]:
    """Yield the models in an annotation."""
    if hasattr(annotation, "model_fields"):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
