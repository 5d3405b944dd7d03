"""What a finished bundle's encoders make of films, computed once and used for fitting heads and for measuring them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmgcs.bundle import MANIFEST, Bundle
from mmgcs.errors import UsageError
from mmgcs.files import atomic_path, sha256
from mmgcs.film import Film
from mmgcs.runtime import Classifier, Features
from mmgcs.training.data import fingerprint
from mmgcs.training.job import Run

LEAST_INPUT = 10
"""Films with an input that its branch needs; with fewer, the new bundle does not read that input."""
MOST_STRANGE = 0.05
"""The share of the films that the encoders' bundle may find strange for its detectors to be kept."""
CHUNK = 256


@dataclass(frozen=True)
class Seen:
    """What the encoders made of the films.

    Attributes:
        values: for each branch, features (films, width).
        present: for each branch (films,), whether it could read the film.
        strange: for each branch (films,), whether the encoders' bundle finds what it read unlike films.
        errors: for each film, why it could not be read; "" where it could.
    """

    values: dict[str, NDArray[np.float32]]
    present: dict[str, NDArray[np.bool_]]
    strange: dict[str, NDArray[np.bool_]]
    errors: list[str]

    @property
    def keeps_detectors(self) -> bool:
        """Whether so few films are strange that the detectors of the encoders' bundle suit them."""
        return float(np.any(list(self.strange.values()), axis=0).mean()) <= MOST_STRANGE


class Remembering(Classifier):
    """A classifier that does not read films again whose features are known: these very films, with all their inputs."""

    def __init__(self, bundle: Bundle, films: Sequence[Film], seen: Seen) -> None:
        super().__init__(bundle, spin=False)
        self._films = films  # kept, so that no other film can come to have the identity of one of them
        self._rows = {id(film): row for row, film in enumerate(films)}
        self._seen = seen

    def features(self, films: Sequence[Film]) -> Features:
        """As of any classifier, without reading where the films are known."""
        rows = [self._rows[id(film)] for film in films if id(film) in self._rows]
        if len(rows) < len(films):
            return super().features(films)
        known = np.array(rows, dtype=np.int64)
        seen, names = self._seen, [branch.name for branch in self.bundle.config.branches]
        strange = np.stack([seen.strange[name][known] for name in names], axis=1)
        return Features(
            {name: seen.values[name][known] for name in names},
            np.stack([seen.present[name][known] for name in names], axis=1).astype(np.float32),
            [()] * len(known),
            [seen.errors[row] for row in known],
            strange & seen.keeps_detectors,
        )


def see(run: Run, base: Classifier) -> Seen:
    """The films' features, from the run's folder where an earlier call left them."""
    films = run.data.films
    key = fingerprint(["features and errors", run.data.fingerprint, sha256(base.bundle.path / MANIFEST), len(films)])
    path = run.folder / f"features-{key}.npz"
    branches = [branch.name for branch in base.bundle.config.branches]
    if not path.is_file():
        parts = []
        for start in range(0, len(films), CHUNK):
            run.log(f"reading films: {start:,} of {len(films):,}")
            parts.append(base.features(films[start : start + CHUNK]))
        arrays = {f"values.{name}": np.concatenate([part.values[name] for part in parts]) for name in branches}
        with atomic_path(path) as temporary, temporary.open("wb") as handle:
            np.savez(
                handle,
                allow_pickle=False,
                present=np.concatenate([part.present for part in parts]),
                strange=np.concatenate([part.strange for part in parts if part.strange is not None]),
                errors=np.array([error for part in parts for error in part.errors], dtype=np.str_),
                **arrays,
            )
    with np.load(path, allow_pickle=False) as kept:
        values = {name: kept[f"values.{name}"] for name in branches}
        present = {name: kept["present"][:, column] > 0 for column, name in enumerate(branches)}
        strange = {name: kept["strange"][:, column] for column, name in enumerate(branches)}
        errors = [str(error) for error in kept["errors"]]
    usable = [name for name in branches if present[name].sum() >= LEAST_INPUT]
    if not usable:
        raise UsageError(f"fewer than {LEAST_INPUT} films could be read; check the plots, and --posters")
    # A film whose only input is of a branch that is left out has nothing to predict from.
    there = np.any([present[name] for name in usable], axis=0)
    errors = [error or ("" if has else "its only input is not read") for error, has in zip(errors, there, strict=True)]
    return Seen(
        {name: values[name] for name in usable},
        {name: present[name] for name in usable},
        {name: strange[name] for name in usable},
        errors,
    )
