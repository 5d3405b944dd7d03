from __future__ import annotations

import numpy as np
import pytest

from mmgcs.evaluation.calibration import fit_confidence, fit_decision, fit_platt
from mmgcs.runtime import expected_f1, log_odds, sigmoid


def test_platt_scaling_undoes_a_wrong_scale_and_offset(make_scores) -> None:
    truth, logits = make_scores(films=8000)
    slope, intercept = fit_platt(logits * 4 - 2, truth)
    np.testing.assert_allclose(slope, 0.25, rtol=0.1)
    np.testing.assert_allclose(intercept, 0.5, atol=0.2)


def test_few_films_leave_the_slope_near_one_and_never_turn_a_ranking_around() -> None:
    logits = np.array([[-1.0, 3.0], [1.0, 1.0], [0.5, -3.0]], dtype=np.float32)
    slope, intercept = fit_platt(logits, np.array([[False, False], [True, False], [True, True]]))
    assert 0.7 < slope[0] < 1.5
    assert slope[1] > 0
    assert np.isfinite(intercept).all()
    slope, _ = fit_platt(np.linspace(-50, 50, 200)[:, None], (np.linspace(-50, 50, 200) < 0)[:, None])
    assert slope[0] > 0


def test_the_confidence_threshold_keeps_the_wanted_share() -> None:
    confidence = np.random.default_rng(0).permutation(np.linspace(0, 1, 101))
    least = fit_confidence(confidence, 0.8)
    assert (confidence >= least).mean() == pytest.approx(0.8, abs=0.01)
    assert (confidence >= fit_confidence(confidence, 1.0)).all()


def test_a_decision_is_good_on_unseen_films_and_sure_of_the_better_ones(make_scores) -> None:
    truth, logits = make_scores(films=6000)
    decision = fit_decision(logits[:1000] * 2, truth[:1000], coverage=0.7)
    probabilities = sigmoid(logits[1000:] * 2 * np.array(decision.slope) + np.array(decision.intercept))
    chosen = probabilities >= np.array(decision.thresholds)
    sure = expected_f1(probabilities, chosen) >= decision.confidence
    assert sure.mean() == pytest.approx(0.7, abs=0.04)

    def micro_f1(rows):
        return 2 * (truth[1000:] & chosen)[rows].sum() / (truth[1000:][rows].sum() + chosen[rows].sum())

    assert micro_f1(sure) > micro_f1(np.ones(5000, dtype=bool)) + 0.03


def test_the_decided_share_of_genres_is_the_one_asked_for_and_is_far_more_often_right(make_scores) -> None:
    truth, logits = make_scores(films=4000)
    seen, unseen = slice(0, 1000), slice(1000, None)
    decision = fit_decision(logits[seen], truth[seen], coverage=0.8)
    thresholds = np.array(decision.thresholds)
    probabilities = sigmoid(logits[unseen] * np.array(decision.slope) + np.array(decision.intercept))
    decided = np.abs(log_odds(probabilities) - log_odds(thresholds)) >= decision.margin
    assert decided.mean() == pytest.approx(0.8, abs=0.02)
    chosen, there = probabilities >= thresholds, truth[unseen]

    def micro_f1(rows):
        return 2 * (there & chosen)[rows].sum() / (there[rows].sum() + chosen[rows].sum())

    assert micro_f1(decided) > micro_f1(np.ones_like(decided)) + 0.05


def test_further_films_move_the_thresholds_and_leave_the_calibration(make_scores) -> None:
    few, more = make_scores(films=150, seed=1), make_scores(films=4000, seed=2)
    alone = fit_decision(few[1], few[0])
    helped = fit_decision(few[1], few[0], more=(more[1], more[0], np.ones_like(more[0])))
    assert (helped.slope, helped.intercept) == (alone.slope, alone.intercept)
    assert helped.thresholds != alone.thresholds


def test_labels_that_are_not_known_have_no_say_in_a_decision(make_scores) -> None:
    truth, logits = make_scores(films=400)
    known = np.random.default_rng(0).random(truth.shape) < 0.7
    whatever = np.where(known, truth, ~truth)
    decision = fit_decision(logits, truth, known=known)
    assert decision == fit_decision(logits, whatever, known=known)
    assert decision != fit_decision(logits, whatever)
    more = make_scores(films=300, seed=5)
    others = [fit_decision(logits, truth, known=known, more=(more[1], labels, known[:300]))
              for labels in (more[0], np.where(known[:300], more[0], ~more[0]))]  # fmt: skip
    assert others[0] == others[1] != decision
