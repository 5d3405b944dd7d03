from __future__ import annotations

import numpy as np
import pytest

from mmgcs.evaluation.baseline import TfidfBaseline
from mmgcs.film import Film

GHOST = "A ghost haunts the old house and screams at night {n}"
JOKE = "Two friends tell silly jokes and laugh at a party {n}"


def films(count: int) -> list[Film]:
    return [Film(title=f"Film {n}", plot=(GHOST if n % 2 else JOKE).format(n=n)) for n in range(count)]


def truth(count: int) -> np.ndarray:
    horror = np.arange(count) % 2 == 1
    return np.stack([horror, ~horror, np.ones(count, dtype=bool), np.zeros(count, dtype=bool)], axis=1)


def test_the_baseline_learns_words_and_is_calibrated_on_held_out_films() -> None:
    baseline = TfidfBaseline(use_title=False).fit(films(60), truth(60)).calibrate(films(30), truth(30))
    probabilities = baseline.probabilities([Film(plot="a ghost screams"), Film(plot="they laugh at silly jokes")])
    chosen = probabilities >= baseline.thresholds
    assert chosen[:, :2].tolist() == [[True, False], [False, True]]


def test_genres_that_all_or_no_films_have_are_constants() -> None:
    baseline = TfidfBaseline(use_title=False).fit(films(20), truth(20))
    probabilities = baseline.probabilities(films(4))
    assert (probabilities[:, 2] > 0.99).all()
    assert (probabilities[:, 3] < 0.01).all()


@pytest.mark.parametrize("use_title", [True, False])
def test_the_title_is_read_only_where_asked(use_title) -> None:
    train = [Film(title="Ghoul" if n % 2 else "Giggle", plot="words of no meaning") for n in range(20)]
    baseline = TfidfBaseline(use_title=use_title).fit(train, truth(20)[:, :2])
    logits = baseline.logits(train[:2])
    assert (logits[0, 0] != pytest.approx(logits[1, 0])) == use_title
