"""The baseline that a model must beat: TF-IDF and logistic regression, fitted in seconds as part of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgcs.evaluation.calibration import fit_platt, fit_thresholds
from mmgcs.film import Film
from mmgcs.preprocess import film_text
from mmgcs.runtime import sigmoid


class TfidfBaseline:
    """One-vs-rest logistic regression on TF-IDF of words and pairs of words of the plot.

    Attributes:
        use_title: True if the title is read before the plot.
        thresholds: (genres,) probabilities from which a genre is chosen; 0.5 until `calibrate`.
    """

    def __init__(self, *, use_title: bool) -> None:
        self.use_title = use_title
        self.thresholds: NDArray[np.float64] | float = 0.5
        self._slope: NDArray[np.float64] | float = 1.0
        self._intercept: NDArray[np.float64] | float = 0.0

    def fit(
        self, films: Sequence[Film], truth: NDArray[np.bool_], known: NDArray[np.bool_] | None = None
    ) -> TfidfBaseline:
        """Fit on films that all have plots, and return self.

        Args:
            films: the films.
            truth: (films, genres).
            known: (films, genres), False where a label is unknown and left out; None if all are known.

        Raises:
            ValueError: the plots have no words.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        # Pairs seen once are two thirds of all pairs and useless for other films, but few films need them all.
        least = 2 if len(films) >= 1000 else 1
        self._vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=least, sublinear_tf=True, dtype=np.float32)
        matrix = self._vectorizer.fit_transform(self._texts(films))
        known = np.ones_like(truth) if known is None else known
        self._models: list[LogisticRegression | float] = []
        for there, rows in zip(truth.T, known.T, strict=True):
            if there[rows].all() or not there[rows].any():
                # If all films have the genre, or none, there is nothing to fit: predict a constant.
                self._models.append(10.0 if there[rows].all() else -10.0)
            else:
                # Of 1, 3, 6 and 10, this C gave the best mean average precision on held-out plots.
                model = LogisticRegression(C=3.0, solver="liblinear")
                self._models.append(model.fit(matrix[rows], there[rows]))
        return self

    def calibrate(
        self, films: Sequence[Film], truth: NDArray[np.bool_], known: NDArray[np.bool_] | None = None
    ) -> TfidfBaseline:
        """Fit calibration and thresholds on held-out films with plots, as for our own models, and return self."""
        logits = self.logits(films)
        self._slope, self._intercept = fit_platt(logits, truth, known)
        self.thresholds = fit_thresholds(truth, sigmoid(logits * self._slope + self._intercept), known)
        return self

    def logits(self, films: Sequence[Film]) -> NDArray[np.float64]:
        """Return uncalibrated logits (films, genres)."""
        matrix = self._vectorizer.transform(self._texts(films))
        columns = [
            np.full(matrix.shape[0], model) if isinstance(model, float) else model.decision_function(matrix)
            for model in self._models
        ]
        return np.stack(columns, axis=1)

    def probabilities(self, films: Sequence[Film]) -> NDArray[Any]:
        """Return probabilities (films, genres) of films with plots, calibrated once `calibrate` was called."""
        return sigmoid(self.logits(films) * self._slope + self._intercept)

    def _texts(self, films: Sequence[Film]) -> list[str]:
        return [film_text(film.plot or "", film.title if self.use_title else None) for film in films]
