"""Soft targets: a teacher's probabilities for the training films, learned alongside their labels.

Distillation as in Hinton et al. 2015 ("Distilling the Knowledge in a Neural Network"), for several labels at once: the
student's logits are fitted to the teacher's probabilities of each genre.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmgcs.errors import UsageError
from mmgcs.files import atomic_writer
from mmgcs.preprocess import identify_language
from mmgcs.runtime import load, sigmoid, without
from mmgcs.training.labelled import Labelled

CHUNK = 1024


def read_soft_targets(
    path: Path, bundle: str, data: Labelled, rows: NDArray[np.int64], shown: str
) -> NDArray[np.float32]:
    """Return a finished bundle's probabilities for the training films, before calibration.

    A plot in a language that the bundle has not learned gets the answer to another plot of the same film, if any.

    Args:
        path: the file that keeps them; a resumed training reads it.
        bundle: the bundle's folder, or "default" for the packaged one.
        data: the films.
        rows: the films to learn from.
        shown: the only input that the teacher sees, "plot" or "poster".

    Returns:
        (films, genres) float32, in the order of `data`; NaN where there is no answer.

    Raises:
        UsageError: there is no bundle, or it does not know all the genres.
    """
    if path.is_file():
        kept: NDArray[np.float32] = np.load(path)
        return kept
    teacher = load(None if bundle == "default" else bundle)
    known = teacher.genres
    if missing := [genre for genre in data.genres if genre not in known]:
        raise UsageError(f"distill.teacher: {bundle} does not know {', '.join(missing)}; give another teacher")
    columns = [known.index(genre) for genre in data.genres]
    answers = np.full(data.truth.shape, np.nan, dtype=np.float32)
    learned = (None, *teacher.bundle.config.languages)
    read = np.array([shown == "poster" or identify_language(data.films[row].plot or "") in learned for row in rows])
    asked = rows[read]
    for start in range(0, len(asked), CHUNK):
        part = asked[start : start + CHUNK]
        films = [without(data.films[row], "poster" if shown == "plot" else "plot") for row in part]
        features = teacher.features([replace(film, title=None) for film in films] if shown == "poster" else films)
        said = sigmoid(teacher.logits(features))[:, columns]
        said[features.present.sum(1) == 0] = np.nan
        answers[part] = said
    answered = {data.films[row].id: row for row in asked if data.films[row].id}
    for row in rows[~read]:
        if (other := answered.get(data.films[row].id)) is not None:
            answers[row] = answers[other]
    with atomic_writer(path, "wb") as handle:
        np.save(handle, answers)
    return answers
