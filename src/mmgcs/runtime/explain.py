"""Why a film was given its genres: what the probabilities lose when a part of the input is hidden.

Occlusion (Zeiler and Fergus 2014) asks only for predictions, so it explains any bundle. Words are taken out of the plot
and the rest is tokenised again; regions of the poster are painted over in its mean colour; and each input is hidden
as a whole by running the fusion again on features that are there already.

>>> from mmgcs.runtime.explain import explain
>>> explain(classifier, Film(plot="A vampire count preys on a village.")).words("Horror")  # doctest: +SKIP
[('vampire', 0.41), ('count', 0.05), ...]
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
from mmgcs.preprocess import Prepared, clean_text
from mmgcs.runtime.classifier import Classifier, Features, PreparedFilm

MAX_PASSES = 40
"""Films, whole and with a part hidden, that the encoders are run on at most for one explanation."""
GRID = (6, 4)
"""Rows and columns of a poster's regions: near square on a 2:3 poster."""
GRID_BESIDE_PLOT = (5, 4)

_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Span:
    """Some neighbouring words of the plot.

    Attributes:
        start, end: their place in `Explanation.text`, as a slice.
        drops: for each genre, how much its probability falls without them; negative where they speak against it.
    """

    start: int
    end: int
    drops: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Attended:
    """How much of a model's attention a word of the plot got: where it looked, which need not be why it answered.

    Attributes:
        word: the word, as the model's tokenizer cut it.
        weight: its share; those of a plot sum to 1.
    """

    word: str
    weight: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """What spoke for and against each genre. Every number is a fall of a calibrated probability, -1 to 1.

    Attributes:
        prediction: the prediction that is explained.
        genres: the genres that are explained, most probable first.
        text: the plot as it was read; spans are places in it.
        spans: the plot's words in order; empty without a plot.
        regions: for each genre the poster's regions, rows of columns from the top left; empty without a poster.
        inputs: for each genre and input, the fall when that input is hidden; empty where there is only one input.
        shares: how much of the explained genres came from each input; they sum to 1.
        passes: films that the encoders were run on.
        attention: the words in the order that an encoder with attention read them; empty where the bundle has none.
    """

    prediction: Prediction
    genres: tuple[str, ...]
    text: str
    spans: tuple[Span, ...]
    regions: Mapping[str, list[list[float]]]
    inputs: Mapping[str, Mapping[str, float]]
    shares: Mapping[str, float]
    passes: int
    attention: tuple[Attended, ...] = ()

    def words(self, genre: str, count: int = 5) -> list[tuple[str, float]]:
        """The words that spoke most for a genre, with what its probability loses without them."""
        ranked = sorted(self.spans, key=lambda span: -span.drops[genre])
        return [
            (self.text[span.start : span.end], span.drops[genre]) for span in ranked[:count] if span.drops[genre] > 0
        ]

    def to_json(self) -> dict[str, Any]:
        """The explanation as JSON holds it, without the prediction."""
        value = asdict(replace(self, prediction=Prediction()))
        del value["prediction"]
        return value


def explain(classifier: Classifier, film: Film, genres: Sequence[str] | None = None) -> Explanation:
    """Explain a film's prediction with at most `MAX_PASSES` passes of the encoders.

    Args:
        classifier: the loaded bundle.
        film: the film; what cannot be read of it is left aside with the prediction's warning.
        genres: the genres to explain; None for the chosen ones, or the most probable one where none is chosen.

    Raises:
        InputError: there is nothing to predict from.
        UsageError: a genre is not one of the bundle's.
    """
    (prepared,) = classifier.prepare([film])
    if prepared.error is not None:
        raise InputError(prepared.error)
    base = classifier.features_of([prepared])
    (prediction,) = classifier.decide(classifier.logits(base), base)
    explained = _genres(classifier, prediction, genres)
    columns = [classifier.genres.index(genre) for genre in explained]
    whole = np.array([prediction.probabilities[genre] for genre in explained])
    both = len(prediction.inputs) == 2
    passes = 1

    def drops(features: Features) -> NDArray[np.float64]:
        # (films, explained genres): what is lost against the whole film
        logits = classifier.logits(features)
        result: NDArray[np.float64] = whole - classifier.probabilities(logits, "+".join(prediction.inputs))[:, columns]
        return result

    regions: dict[str, list[list[float]]] = {}
    if "poster" in prediction.inputs:
        rows, across = GRID_BESIDE_PLOT if both else GRID
        hidden = _with_regions_hidden(classifier, prepared, rows, across)
        passes += len(hidden)
        falls = drops(_replaced(classifier, base, "poster", hidden)).reshape(rows, across, len(explained))
        regions = {genre: _rounded(falls[..., column]).tolist() for column, genre in enumerate(explained)}

    text = ""
    spans: tuple[Span, ...] = ()
    if "plot" in prediction.inputs:
        text = clean_text(film.plot or "")
        places = _spans(text, MAX_PASSES - passes)
        if len(places) == 1:
            falls = whole[None]  # all that is known comes from the only word
        else:
            # The title stays: it is not part of the plot that is shown.
            left = [replace(film, plot=f"{text[:start]} {text[end:]}", poster=None) for start, end in places]
            passes += len(left)
            falls = drops(_replaced(classifier, base, "plot", classifier.prepare(left)))
        spans = tuple(
            Span(start, end, dict(zip(explained, _rounded(fall).tolist(), strict=True)))
            for (start, end), fall in zip(places, falls, strict=True)
        )

    inputs = _input_drops(classifier, base, prediction, explained) if both else {}
    shares = _shares(prediction.inputs, inputs)
    attention = tuple(Attended(word, round(weight, 6)) for word, weight in classifier.attention(prepared))
    return Explanation(prediction, explained, text, spans, regions, inputs, shares, passes, attention)


def _genres(classifier: Classifier, prediction: Prediction, genres: Sequence[str] | None) -> tuple[str, ...]:
    if genres is None:
        return prediction.genres or prediction.top(1)
    known = {genre.casefold(): genre for genre in classifier.genres}
    for genre in genres:
        if genre.casefold() not in known:
            raise UsageError(f"this model has no genre {genre!r}; it knows {', '.join(classifier.genres)}")
    asked = {known[genre.casefold()] for genre in genres}
    return tuple(genre for genre in prediction.top(len(classifier.genres)) if genre in asked)


def _spans(text: str, most: int) -> list[tuple[int, int]]:
    """At most `most` runs of words, all about as long, that cover the text."""
    words = [match.span() for match in _WORD.finditer(text)]
    count = min(len(words), most)
    bounds = [round(index * len(words) / count) for index in range(count + 1)]
    return [(words[first][0], words[last - 1][1]) for first, last in pairwise(bounds)]


def _with_regions_hidden(classifier: Classifier, film: PreparedFilm, rows: int, columns: int) -> list[PreparedFilm]:
    branches = classifier.bundle.config.branches
    hidden = []
    for row in range(rows):
        for column in range(columns):
            parts: list[Prepared | None] = []
            for branch, part in zip(branches, film.parts, strict=True):
                if branch.input != "poster" or part is None:
                    parts.append(None)
                    continue
                pixels = part.value.copy()  # (height, width, 3) uint8
                height, width = pixels.shape[:2]
                region = np.s_[
                    row * height // rows : (row + 1) * height // rows,
                    column * width // columns : (column + 1) * width // columns,
                ]
                pixels[region] = pixels.mean(axis=(0, 1)).round()
                parts.append(Prepared(pixels, part.length))
            hidden.append(PreparedFilm(tuple(parts), (), None))
    return hidden


def _replaced(classifier: Classifier, base: Features, name: str, films: Sequence[PreparedFilm]) -> Features:
    """The base film's features once for each of `films`, with those of the input `name` taken from them."""
    changed = classifier.features_of(films, check=False)
    values = {
        branch.name: changed.values[branch.name]
        if branch.input == name
        else np.repeat(base.values[branch.name], len(films), axis=0)
        for branch in classifier.bundle.config.branches
    }
    return Features(values, np.repeat(base.present, len(films), axis=0), [()] * len(films), [""] * len(films))


def _input_drops(
    classifier: Classifier, base: Features, prediction: Prediction, genres: Sequence[str]
) -> dict[str, dict[str, float]]:
    result: dict[str, dict[str, float]] = {genre: {} for genre in genres}
    for name, other in zip(prediction.inputs, reversed(prediction.inputs), strict=True):
        logits = classifier.logits(base.only(classifier.bundle.config.branches, [other], np.array([0])))
        # What is left is judged as a film that has only the other input.
        rest = classifier.probabilities(logits, other)[0]
        for genre in genres:
            drop = prediction.probabilities[genre] - float(rest[classifier.genres.index(genre)])
            result[genre][name] = round(drop, 6)
    return result


def _shares(inputs: Sequence[str], drops: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    if len(inputs) < 2:
        return dict.fromkeys(inputs, 1.0)
    # Hiding an input can also raise a probability; either way it mattered.
    total = {name: sum(abs(drop[name]) for drop in drops.values()) for name in inputs}
    whole = sum(total.values())
    return {name: round(total[name] / whole, 4) if whole else 1 / len(inputs) for name in inputs}


def _rounded(values: NDArray[Any]) -> NDArray[Any]:
    return np.round(np.asarray(values, dtype=np.float64), 6)
