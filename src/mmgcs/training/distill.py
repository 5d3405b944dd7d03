"""Soft targets: a teacher's probabilities for the training films, learned in addition to their labels.

Distillation as in Hinton et al. 2015 ("Distilling the Knowledge in a Neural Network"), for several labels at once: the
student's logits are fitted to the teacher's probabilities of each genre. If members teach each other, this is
Furlanello et al. 2018 ("Born-Again Neural Networks").
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmgcs.bundle import DEFAULT_BUNDLE, Bundle
from mmgcs.errors import UsageError
from mmgcs.files import atomic_writer
from mmgcs.runtime import Classifier, sigmoid, without
from mmgcs.training.batches import BranchData
from mmgcs.training.data import Labelled
from mmgcs.training.module import BranchModule

CHUNK = 64


def teacher_answers(bundle: str, data: Labelled, rows: NDArray[np.int64], shown: str) -> NDArray[np.float32]:
    """Return a finished bundle's probabilities for the training films, before calibration.

    Args:
        bundle: its folder, or "default" for the packaged one.
        data: the films.
        rows: those to learn from.
        shown: the input that the student reads, "plot" or "poster"; the teacher is shown only that.

    Returns:
        (films, genres) float32, in the order of `data`; NaN for films that are not in `rows`.

    Raises:
        UsageError: there is no bundle, or it does not know all the genres.
    """
    classifier = Classifier(Bundle(DEFAULT_BUNDLE if bundle == "default" else Path(bundle)))
    known = classifier.bundle.config.genres
    if missing := [genre for genre in data.genres if genre not in known]:
        raise UsageError(f"distill.teacher: {bundle} does not know {', '.join(missing)}; give another teacher")
    columns = [known.index(genre) for genre in data.genres]
    films = [without(data.films[row], "poster" if shown == "plot" else "plot") for row in rows]
    if shown == "poster":
        films = [replace(film, title=None) for film in films]
    answers = np.full(data.truth.shape, np.nan, dtype=np.float32)
    order = np.argsort([len(film.plot or "") for film in films], kind="stable")
    for start in range(0, len(order), CHUNK):
        part = order[start : start + CHUNK]
        features = classifier.features([films[index] for index in part])
        said = sigmoid(classifier.logits(features))[:, columns]
        said[features.present.sum(1) == 0] = np.nan  # it could not read these
        answers[rows[part]] = said
    return answers


@torch.no_grad()
def member_answers(learner: BranchModule, data: BranchData, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return a trained member's probabilities for the training films, for the target source.

    Returns:
        (films, genres) float32, in the order of `data.data`; NaN for films that are not in `rows`.
    """
    learner.eval()
    answers = np.full(data.data.truth.shape, np.nan, dtype=np.float32)
    order = rows[np.argsort(data.lengths[rows], kind="stable")]
    for start in range(0, len(order), CHUNK):
        part = order[start : start + CHUNK]
        batch = data.batch(part, None)
        answers[part] = torch.sigmoid(learner.target_logits(batch)).numpy()
    return answers


def save_answers(path: Path, answers: NDArray[np.float32]) -> None:
    """Write soft targets, whole or not at all: a resumed training uses an existing file."""
    with atomic_writer(path, "wb") as handle:
        np.save(handle, answers)
