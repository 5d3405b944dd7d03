"""A scikit-learn estimator for a user's own genres."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from mmgcs.bundle import Bundle, write_bundle
from mmgcs.film import Film, films_of
from mmgcs.genres import parse_genres
from mmgcs.runtime import load
from mmgcs.training.head import LEAST_FILMS, train_head
from mmgcs.training.labelled import own_labels
from mmgcs.training.recipe import HeadRecipe, Recipe
from mmgcs.training.rundir import Run


class GenreClassifier(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Predicts genres of your own: new heads on the encoders of a finished bundle, fitted in seconds to minutes.

    >>> from mmgcs import GenreClassifier
    >>> plots = ["A ghost haunts a house.", "A band goes on tour."] * 10
    >>> model = GenreClassifier().fit(plots, [["Spooky"], ["Music"]] * 10)
    >>> model.predict(["A vampire rises from its grave."])
    [('Spooky',)]

    Args:
        bundle: the bundle with the encoders, or "default" for the shipped one.
        folds: folds of the cross-validation that chooses the regularization, the calibration and the thresholds.
        seed: the seed of the folds.

    Attributes:
        classes_: the genres, in the order of the columns of `predict_proba`.
        bundle_: the trained bundle.
    """

    def __init__(self, bundle: str = "default", folds: int = 4, seed: int = 7) -> None:
        self.bundle = bundle
        self.folds = folds
        self.seed = seed

    def fit(
        self, films: Sequence[Film | str | Mapping[str, Any]], genres: Sequence[Sequence[str] | str]
    ) -> GenreClassifier:
        """Fit heads for the genres of at least four films.

        Args:
            films: each a `Film`, a plot, or a mapping with keys such as `plot` and `poster`.
            genres: for each film its genres, or a text such as "Action|Drama" that names them as a table does.

        Raises:
            UsageError: fewer than two genres have four films.
        """
        named = [
            replace(film, genres=parse_genres(own) if isinstance(own, str) else tuple(own))
            for film, own in zip(films_of(films), genres, strict=True)
        ]
        data = own_labels(named, None, LEAST_FILMS, "the data")
        head = HeadRecipe(bundle=self.bundle, folds=self.folds)
        recipe = Recipe(name="own-genres", seed=self.seed, head=head)
        folder = tempfile.mkdtemp(prefix="mmgcs-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)  # the bundle is deleted with this object
        run = Run(recipe, data, Path(folder), log=lambda line: None, progress=False)
        self.bundle_: Bundle = train_head(run, head)
        self.classes_ = self.bundle_.config.genres
        self._classifier = load(self.bundle_.path)
        return self

    def predict(self, films: Sequence[Film | str | Mapping[str, Any]]) -> list[tuple[str, ...]]:
        """Return the genres of each film, the most likely first; () for a film that cannot be read."""
        check_is_fitted(self)
        return [prediction.genres for prediction in self._classifier.predict_batch(films)]

    def predict_proba(self, films: Sequence[Film | str | Mapping[str, Any]]) -> NDArray[np.float64]:
        """Return calibrated probabilities (films, genres); NaN for a film that cannot be read."""
        check_is_fitted(self)
        predictions = self._classifier.predict_batch(films)
        return np.array([[found.probabilities.get(name, np.nan) for name in self.classes_] for found in predictions])

    def save(self, path: Path | str) -> Bundle:
        """Write the trained bundle to a new folder, for `mmgcs.load` and every command."""
        check_is_fitted(self)
        return write_bundle(Path(path), self.bundle_.config, self.bundle_.copy_to)
