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
        _, first = np.unique(hashes, return_index=True)
        again = np.ones(len(ids), dtype=bool)
        again[first] = False
        for run in self._runs:
            place = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            again |= run[place] == hashes
        if len(ids):
            self._keep(np.sort(hashes[~again]))
        return [bool(name) and bool(was) for name, was in zip(ids, again, strict=True)]

    def _keep(self, run: NDArray[np.int64]) -> None:
        if not len(run):
            return
        self._runs.append(run)
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            last, before = self._runs.pop(), self._runs.pop()
            self._runs.append(np.sort(np.concatenate([before, last]), kind="stable"))
