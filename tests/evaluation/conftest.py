from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

Made = tuple[NDArray[np.bool_], NDArray[np.float32]]


@pytest.fixture
def make_scores() -> Callable[..., Made]:
    """Makes (truth, logits) of films whose logits are right: sigmoid(logit) is the chance that the genre is there."""

    def make(films: int = 400, genres: int = 6, seed: int = 0, spread: float = 2.0) -> Made:
        random = np.random.default_rng(seed)
        centre = np.linspace(-3.0, 0.5, genres)
        logits = (centre + spread * random.normal(size=(films, genres))).astype(np.float32)
        truth = random.random((films, genres)) < 1 / (1 + np.exp(-logits))
        return truth, logits

    return make
