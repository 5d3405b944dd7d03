from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from mmgcs.evaluation.calibration import _best_cut, fit_thresholds
from mmgcs.runtime import log_odds, sigmoid


def best_threshold(truth, probabilities):
    """The threshold that maximises F1 of one genre on these very films: what `fit_thresholds` steadies."""
    return sigmoid(_best_cut(log_odds(probabilities), np.ones((1, len(truth)), dtype=np.float32), truth))


def test_the_best_threshold_is_the_best_of_all(make_scores) -> None:
    truth, logits = make_scores(films=120)
    probabilities = sigmoid(logits)
    for genre in range(6):
        there, p = truth[:, genre], probabilities[:, genre]
        best = max(f1_score(there, p >= cut) for cut in p)
        assert f1_score(there, p >= best_threshold(there, p)) == pytest.approx(best)


def test_steadied_thresholds_do_better_on_unseen_films_than_the_plain_best(make_scores) -> None:
    steady, plain = [], []
    for seed in range(12):
        truth, logits = make_scores(films=4150, seed=seed, spread=1.3)
        probabilities = sigmoid(logits)
        seen, unseen = slice(0, 150), slice(150, None)
        for thresholds, found in (
            (fit_thresholds(truth[seen], probabilities[seen]), steady),
            ([best_threshold(*pair) for pair in zip(truth[seen].T, probabilities[seen].T, strict=True)], plain),
        ):
            chosen = probabilities[unseen] >= thresholds
            found.append([f1_score(truth[unseen], chosen, average=kind) for kind in ("micro", "macro")])
    assert (np.mean(steady, axis=0) > np.mean(plain, axis=0)).all()


def test_right_probabilities_get_thresholds_near_half_the_best_f1(make_scores) -> None:
    # The optimum for calibrated probabilities is F*/2 (Lipton et al. 2014).
    truth, logits = make_scores(films=20_000)
    probabilities = sigmoid(logits)
    thresholds = fit_thresholds(truth, probabilities, shrinkage=0.0, resamples=20)
    for genre in range(6):
        best = f1_score(truth[:, genre], probabilities[:, genre] >= thresholds[genre])
        assert thresholds[genre] == pytest.approx(best / 2, abs=0.04)


def test_a_genre_without_films_gets_the_common_threshold(make_scores) -> None:
    truth, logits = make_scores()
    truth[:, 2] = False
    found = fit_thresholds(truth, sigmoid(logits))
    common = fit_thresholds(truth, sigmoid(logits), shrinkage=1.0, expected=0.0)
    assert found[2] == pytest.approx(common[0])
    assert np.ptp(common) < 1e-12


def test_no_labels_at_all_leave_a_half() -> None:
    assert list(fit_thresholds(np.zeros((5, 2), dtype=bool), np.full((5, 2), 0.3))) == [0.5, 0.5]
    assert np.isnan(best_threshold(np.zeros(5, dtype=bool), np.full(5, 0.3)))
