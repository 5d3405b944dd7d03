"""Which ids a table has had already, in eight bytes an id."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class SeenIds:
    """A set of ids kept as sorted runs of 64-bit hashes, merged when two are of like length (O'Neil et al. 1996).

    A Python set of a million strings takes a hundred times a chunk of films; this takes 8 MB. Two different ids share
    a hash once in some ten million tables of a million films.
    """

    def __init__(self) -> None:
        self._runs: list[NDArray[np.int64]] = []

    def add(self, ids: Sequence[str]) -> list[bool]:
        """Add ids. Returns for each whether it was there before, earlier in `ids` included; "" never is."""
        hashes = np.fromiter((hash(name) for name in ids), dtype=np.int64, count=len(ids))
        run, first = np.unique(hashes, return_index=True)
        again = np.ones(len(ids), dtype=bool)
        again[first] = False
        for earlier in self._runs:
            place = np.minimum(np.searchsorted(earlier, hashes), len(earlier) - 1)
            again |= earlier[place] == hashes
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = np.union1d(self._runs.pop(), run)
        self._runs.append(run)
        return [bool(name) and bool(was) for name, was in zip(ids, again, strict=True)]
