"""Explain why a film got its genres: how far each genre's log-odds fall when a part of the input is hidden.

Occlusion (Zeiler and Fergus 2014) only needs predictions, so it explains any bundle. Words are removed from the plot,
which is then tokenized again; regions of the poster are filled with its mean color; and each whole input is hidden by
running the fusion again with the other input alone.

Log-odds, log(p / (1 - p)), still move where a probability is close to 0 or 1 and hardly changes itself.

>>> from mmgcs import Film, explain
>>> explain(classifier, Film(plot="A vampire count preys on a village.")).words("Horror")  # doctest: +SKIP
[('vampire', 5.4373), ('village.', 0.2514), ...]
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgcs.errors import InputError, UsageError
from mmgcs.film import Film, Prediction
from mmgcs.genres import canonical
from mmgcs.preprocess import Prepared, clean_text
from mmgcs.runtime.classifier import Classifier, Features, PreparedFilm
from mmgcs.wording import did_you_mean

MAX_PASSES = 40
"""The most films, whole or with a part hidden, that go through the encoders for one explanation."""


@dataclass(frozen=True, slots=True)
class Span:
    """Some neighbouring words of the plot."""

    start: int  # `Explanation.text[start:end]` are the words
    end: int
    # the fall in each genre's log-odds without them; negative if they speak against it
    drops: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Attended:
    """How much of a model's attention a word of the plot got. Attention is not necessarily the reason for an answer."""

    word: str  # as the model's tokenizer cut it
    weight: float  # its share; the shares of a plot sum to 1


@dataclass(frozen=True, slots=True)
class Explanation:
    """What speaks for and against each genre. Every number is a fall in calibrated log-odds, positive if it speaks for.

    Attributes:
        prediction: the prediction that is explained.
        genres: the explained genres, most probable first.
        text: the plot as it was read; spans are places in it.
        spans: the plot's words in order; empty without a plot.
        regions: for each genre the poster's regions, row by row from the top left; empty without a poster.
        inputs: for each genre, the fall if the plot is hidden and if the poster is; empty if there is only one.
        passes: films that went through the encoders.
        attention: the words in the order an encoder with attention read them; empty if the bundle has no such encoder.
    """

    prediction: Prediction
    genres: tuple[str, ...]
    text: str
    spans: tuple[Span, ...]
    regions: Mapping[str, list[list[float]]]
    inputs: Mapping[str, Mapping[str, float]]
    passes: int
    attention: tuple[Attended, ...] = ()

    def words(self, genre: str, count: int = 5) -> list[tuple[str, float]]:
        """Return the words that speak most for a genre, with the fall in its log-odds without them."""
        ranked = sorted(self.spans, key=lambda span: -span.drops[genre])
        return [
            (self.text[span.start : span.end], span.drops[genre]) for span in ranked[:count] if span.drops[genre] > 0
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the explanation as JSON values, without the prediction."""
        value = asdict(replace(self, prediction=Prediction()))
        del value["prediction"]
        return value


def explain(
    classifier: Classifier, film: Film | str | Mapping[str, Any], genres: Sequence[str] | None = None
) -> Explanation:
    """Explain a film's prediction with at most `MAX_PASSES` passes through the encoders.

    Args:
        classifier: the loaded bundle.
        film: the film, its plot, or a mapping with keys such as `plot` and `poster`; an input that cannot be read is
            ignored with the prediction's warning.
        genres: the genres to explain; None for the predicted ones, or the most probable one if none is predicted.

    Raises:
        InputError: there is nothing to predict from.
        UsageError: a genre is not one of the bundle's.
    """
    film = Film.of(film)
    (prepared,) = classifier.prepare([film])
    if prepared.error is not None:
        raise InputError(prepared.error)
    base = classifier.features_of([prepared])
    logits = classifier.logits(base)
    (prediction,) = classifier.decide(logits, base)
    explained = _choose(classifier, prediction, genres)
    columns = [classifier.genres.index(genre) for genre in explained]
    branches = classifier.bundle.config.branches
    both = len(prediction.inputs) == 2
    whole = classifier.odds(logits, "+".join(prediction.inputs))[0, columns]  # (explained,)
    passes = 1

    def drops(changed: Features, inputs: Sequence[str] = prediction.inputs) -> NDArray[np.float64]:
        # (films, explained)
        left = classifier.odds(classifier.logits(changed), "+".join(inputs))[:, columns]
        return np.asarray(np.round((whole - left).astype(np.float64), 4), dtype=np.float64)

    def drops_with(name: str, films: Sequence[PreparedFilm]) -> NDArray[np.float64]:
        """Return the drops when one input is that of each of `films` in turn."""
        changed, count = classifier.features_of(films, check=False), len(films)
        values = {
            branch.name: changed.values[branch.name]
            if branch.input == name
            else np.repeat(base.values[branch.name], count, axis=0)
            for branch in branches
        }
        return drops(Features(values, np.repeat(base.present, count, axis=0), [()] * count, [""] * count))

    regions: dict[str, list[list[float]]] = {}
    if "poster" in prediction.inputs:
        # Nearly square regions on a 2:3 poster; with a plot fewer, since its words need passes too.
        rows, across = (5, 4) if both else (6, 4)
        hidden = _hide_regions(classifier, prepared, rows, across)
        passes += len(hidden)
        falls = drops_with("poster", hidden).reshape(rows, across, len(explained))
        regions = {genre: falls[..., column].tolist() for column, genre in enumerate(explained)}

    text = ""
    spans: tuple[Span, ...] = ()
    if "plot" in prediction.inputs:
        text = clean_text(film.plot or "")
        places = _split_words(text, MAX_PASSES - passes)
        falls = whole[None].astype(np.float64)  # without its only word, nothing is left of the plot
        if len(places) > 1:
            # The title stays: it is not part of the plot that is shown.
            shorter = [replace(film, plot=f"{text[:start]} {text[end:]}", poster=None) for start, end in places]
            passes += len(shorter)
            falls = drops_with("plot", classifier.prepare(shorter))
        spans = tuple(
            Span(start, end, dict(zip(explained, fall.tolist(), strict=True)))
            for (start, end), fall in zip(places, falls, strict=True)
        )

    inputs: dict[str, dict[str, float]] = {genre: {} for genre in explained} if both else {}
    for name, other in (("plot", "poster"), ("poster", "plot")) if both else ():
        # The rest is decided as for a film that has only the other input.
        (fall,) = drops(base.only(branches, [other], np.array([0])), [other]).tolist()
        for genre, drop in zip(explained, fall, strict=True):
            inputs[genre][name] = drop
    attention = tuple(Attended(word, round(weight, 6)) for word, weight in classifier.attention(prepared))
    return Explanation(prediction, explained, text, spans, regions, inputs, passes, attention)


def _choose(classifier: Classifier, prediction: Prediction, genres: Sequence[str] | None) -> tuple[str, ...]:
    """Return the genres to explain in the model's spelling, most probable first."""
    if genres is None:
        return prediction.genres or prediction.top(1)
    known = {canonical(genre).casefold(): genre for genre in classifier.genres}
    wanted = set()
    for name in genres:
        genre = known.get(canonical(name).casefold())
        if genre is None:
            hint = did_you_mean(name, classifier.genres) or f"it knows {', '.join(classifier.genres)}"
            raise UsageError(f"this model has no genre {name!r}; {hint}")
        wanted.add(genre)
    return tuple(genre for genre in prediction.top(len(classifier.genres)) if genre in wanted)


def _split_words(text: str, most: int) -> list[tuple[int, int]]:
    """Return at most `most` runs of words, of about equal length, that cover the text."""
    words = [match.span() for match in re.finditer(r"\S+", text)]
    count = min(len(words), most)
    bounds = [round(index * len(words) / count) for index in range(count + 1)]
    return [(words[first][0], words[last - 1][1]) for first, last in pairwise(bounds)]


def _hide_regions(classifier: Classifier, film: PreparedFilm, rows: int, columns: int) -> list[PreparedFilm]:
    """Return the film's poster once for each region, with that region filled with the poster's mean color."""
    hidden = []
    for row, column in np.ndindex(rows, columns):
        parts: list[Prepared | None] = []
        for branch, part in zip(classifier.bundle.config.branches, film.parts, strict=True):
            if branch.input == "poster" and part is not None:
                pixels = part.value.copy()  # (height, width, 3) uint8
                pixels[region(pixels, row, column, rows, columns)] = pixels.mean(axis=(0, 1)).round()
                parts.append(Prepared(pixels, part.length))
            else:
                parts.append(None)
        hidden.append(PreparedFilm(tuple(parts), (), None))
    return hidden


def region(pixels: NDArray[Any], row: int, column: int, rows: int, columns: int) -> tuple[slice, slice]:
    """Return the slices of one region of an image (height, width, …) that is cut into rows and columns."""
    height, width = pixels.shape[:2]
    return np.s_[
        row * height // rows : (row + 1) * height // rows,
        column * width // columns : (column + 1) * width // columns,
    ]
