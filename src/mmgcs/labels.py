"""Label sources: which genres a catalogue can name, and what a missing genre means.

Catalogues disagree. TMDB can name all eighteen genres of the default set, so a genre that TMDB leaves out is a "no".
IMDb gives at most three names: a film with three may have a fourth that was not written down. JustWatch has no
Adventure and no Mystery at all. Such a gap is *unknown*, and training and metrics must skip it rather than read it as
a "no" (learning from partial labels, Durand et al. 2019).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveInt, field_validator

from mmgcs.film import Film
from mmgcs.genres import canonical, unfamiliar, within


class LabelSource(BaseModel):
    """What one source of labels can say.

    Attributes:
        unnamed: genres the source never names, or names only for some films; if missing, they are unknown.
        wide: genres the source uses more broadly than the default set does; if present, they are unknown.
        max_names: the most genres a film gets; if it has that many, all others are unknown. None for no limit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    unnamed: tuple[str, ...] = ()
    wide: tuple[str, ...] = ()
    max_names: PositiveInt | None = None

    @field_validator("unnamed", "wide")
    @classmethod
    def _usual_spellings(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Spell genres as tables are read, where "Sci-Fi" becomes "Science Fiction"."""
        return tuple(canonical(name) for name in names)


LABEL_SOURCES: Mapping[str, LabelSource] = {
    "tmdb": LabelSource(),
    "imdb": LabelSource(max_names=3),
    "justwatch": LabelSource(
        unnamed=("Adventure", "Mystery"), wide=("Action", "Documentary", "Family", "Music", "Thriller")
    ),
    "movielens": LabelSource(unnamed=("Family", "History", "Music")),
}
"""The sources that come with mmgcs. Recipes add their own under `label_sources`."""


def label_sources(*cards: Mapping[str, Any]) -> dict[str, LabelSource]:
    """Return the built-in label sources, and those described in the recipes of these cards."""
    sources = dict(LABEL_SOURCES)
    for card in cards:
        own = (card.get("recipe") or {}).get("label_sources") or {}
        sources |= {name: LabelSource.model_validate(described) for name, described in own.items()}
    return sources


def read_labels(
    films: Sequence[Film], genres: Sequence[str], sources: Mapping[str, LabelSource] = LABEL_SOURCES
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which genres each film has, and for which genres that is known.

    Args:
        films: the films; `Film.labels` names the source of `Film.genres`.
        genres: the genres, in the order of the columns.
        sources: descriptions by name. A source without one is assumed to name every genre.

    Returns:
        truth and known, both (films, genres) bool. `truth` is only meaningful where `known` is True.
    """
    column = {genre: index for index, genre in enumerate(genres)}
    truth = np.zeros((len(films), len(genres)), dtype=bool)
    known = np.ones((len(films), len(genres)), dtype=bool)
    complete = LabelSource()
    for row, film in enumerate(films):
        names = within(film.genres or (), genres)
        source = sources.get(film.labels or "", complete)
        truth[row, [column[name] for name in names]] = True
        if source.max_names is not None and len(film.genres or ()) >= source.max_names:
            known[row] = truth[row]
        unknown = (set(source.unnamed) - set(names)) | (set(source.wide) & set(names))
        known[row, [column[genre] for genre in unknown if genre in column]] = False
    return truth, known


def label_notes(
    films: Sequence[Film], genres: Sequence[str], sources: Mapping[str, LabelSource] = LABEL_SOURCES
) -> list[str]:
    """Return one line for each unknown genre, and for each label source that has no description."""
    names = Counter(name for film in films for name in film.genres or ())
    notes = []
    for name, nearest in unfamiliar(names, genres).items():
        hint = f"; did you mean {nearest!r}?" if nearest else ""
        notes.append(f"unknown genre {name!r} in {names[name]:,} film{'s' * (names[name] != 1)}, ignored{hint}")
    shown = 8
    if len(notes) > shown:
        notes[shown:] = [f"… and {len(notes) - shown} more unknown genres"]
    return notes + [
        f"label source {source!r} has no description, so a missing genre counts as a no; "
        "describe it under label_sources in the recipe"
        for source in undescribed((film.labels for film in films), sources)
    ]


def undescribed(labels: Iterable[str | None], sources: Mapping[str, LabelSource] = LABEL_SOURCES) -> list[str]:
    """Return the label sources that have no description, sorted; None and "" are ignored."""
    return sorted({label for label in labels if label} - set(sources))
