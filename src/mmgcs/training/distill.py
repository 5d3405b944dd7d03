"""Soft targets: a teacher's probabilities for the training films, learned alongside their labels.

Distillation as in Hinton et al. 2015 ("Distilling the Knowledge in a Neural Network"), for several labels at once: the
student's logits are fitted to the teacher's probabilities of each genre.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmgcs.errors import UsageError
from mmgcs.files import atomic_writer
from mmgcs.preprocess import identify_language
from mmgcs.progress import track
from mmgcs.runtime import Classifier, load, sigmoid, without
from mmgcs.training.labelled import Labelled

CHUNK = 1024


def load_teacher(bundle: str, genres: Sequence[str]) -> Classifier:
    """Load the bundle that a model of `genres` learns from.

    Raises:
        UsageError: there is no bundle, or it does not know all the genres.
    """
    teacher = load(bundle)
    if missing := [genre for genre in genres if genre not in teacher.genres]:
        raise UsageError(f"distill.teacher: {bundle} does not know {', '.join(missing)}; give another teacher")
    return teacher


def read_soft_targets(
    path: Path, bundle: str, data: Labelled, rows: NDArray[np.int64], *, progress: bool = False
) -> NDArray[np.float32]:
    """Return a finished bundle's probabilities for the training films, before calibration.

    The teacher reads all that a film has, so a student of plots learns from answers to plot and poster. A plot in a
    language that the teacher has not learned gets the answer to another plot of the same film, or to the poster alone.

    Args:
        path: the file that keeps them; a resumed training reads it.
        bundle: the bundle's folder, or "default" for the packaged one.
        data: the films.
        rows: the films to learn from.
        progress: show how much is done.

    Returns:
        (films, genres) float32, in the order of `data`; NaN where there is no answer.

    Raises:
        UsageError: as for `load_teacher`.
    """
    if path.is_file():
        kept: NDArray[np.float32] = np.load(path)
        return kept
    teacher = load_teacher(bundle, data.genres)
    columns = [teacher.genres.index(genre) for genre in data.genres]
    answers = np.full(data.truth.shape, np.nan, dtype=np.float32)
    learned = (None, *teacher.bundle.config.languages)
    read = np.array([identify_language(data.films[row].plot or "") in learned for row in rows])
    shown = [
        data.films[row] if fine else without(data.films[row], "plot") for row, fine in zip(rows, read, strict=True)
    ]
    starts = range(0, len(rows), CHUNK)
    for start in track(starts, "teacher", len(starts), enabled=progress):
        features = teacher.features(shown[start : start + CHUNK])
        scores = sigmoid(teacher.logits(features))[:, columns]
        scores[features.present.sum(1) == 0] = np.nan
        answers[rows[start : start + CHUNK]] = scores
    answered = {data.films[row].id: row for row in rows[read] if data.films[row].id}
    for row in rows[~read]:
        if (other := answered.get(data.films[row].id)) is not None:
            answers[row] = answers[other]
    with atomic_writer(path, "wb") as handle:
        np.save(handle, answers)
    return answers
