"""Balancing: the commonest ten genres with equally many films each, as the original's `strictly_balanced_top10.csv`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_flow

from mmgcs.datasets.clean import LabelSets
from mmgcs.errors import UsageError

TOP = 10


def top_genres(labels: LabelSets, count: int = TOP) -> tuple[str, ...]:
    """The commonest genres, most films first; ties by name."""
    films = labels.counts()
    return tuple(sorted(labels.genres, key=lambda genre: (-films[labels.genres.index(genre)], genre))[:count])


def strictly_balanced(labels: LabelSets, per_genre: int | None, seed: int) -> NDArray[np.int64]:
    """Choose films so that every genre stands for equally many: each chosen film is counted for one of its genres.

    A film has several genres, so the counts of a genre's films cannot all be equal; what is equal, as in the original
    (11,163 for each of ten: 111,630 films), is how many films were taken for the sake of each. Which film is taken
    for which genre is a maximum flow from sets of genres to genres, so no count is refused that is possible.

    Args:
        labels: the films' genres.
        per_genre: films for each genre; None takes as many as all genres can have.
        seed: decides which of the films with the same genres are taken.

    Returns:
        Row numbers in ascending order, `per_genre` times the number of genres.

    Raises:
        UsageError: a genre has too few films.
    """
    films = np.bincount(labels.of_film, minlength=len(labels.sets))
    counts = labels.counts()
    if not len(counts) or counts.min() == 0:
        return np.empty(0, dtype=np.int64)
    if per_genre is None:
        low, high = 0, int(counts.min())  # the largest count that is possible, by halving
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if _take(labels, films, middle) is not None else (low, middle - 1)
        per_genre = low
    taken = _take(labels, films, per_genre)
    if taken is None:
        rarest = int(counts.argmin())
        raise UsageError(
            f"--per-genre {per_genre:,} is more than the films allow (the rarest genre, {labels.genres[rarest]}, has "
            f"{counts[rarest]:,}, and a film counts for one genre only); give a smaller number or leave it out"
        )
    order = np.random.default_rng(seed).permutation(len(labels.of_film))
    order = order[np.argsort(labels.of_film[order], kind="stable")]
    rank = np.arange(len(order)) - (np.cumsum(films) - films)[labels.of_film[order]]
    return np.sort(order[rank < taken[labels.of_film[order]]])


def _take(labels: LabelSets, films: NDArray[np.int64], per_genre: int) -> NDArray[np.int64] | None:
    """How many films of each set to take for `per_genre` films a genre; None where that is impossible."""
    sets, genres = labels.sets.shape
    source, sink = 0, 1 + sets + genres
    which, genre = np.nonzero(labels.sets)
    start = np.concatenate([np.zeros(sets, np.int64), 1 + which, 1 + sets + np.arange(genres)])
    end = np.concatenate([1 + np.arange(sets), 1 + sets + genre, np.full(genres, sink)])
    capacity = np.concatenate([films, films[which], np.full(genres, per_genre)]).astype(np.int32)
    places = (start.astype(np.int32), end.astype(np.int32))  # all that maximum_flow of older versions of scipy takes
    graph = coo_array((capacity, places), shape=(sink + 1, sink + 1)).tocsr()
    result = maximum_flow(graph, source, sink)
    if result.flow_value < per_genre * genres:
        return None
    return np.asarray(result.flow.toarray()[source, 1 : 1 + sets], dtype=np.int64)
