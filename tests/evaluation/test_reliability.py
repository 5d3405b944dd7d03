from __future__ import annotations

import numpy as np
import pytest

from mmgcs.evaluation.metrics import calibration_floor, expected_calibration_error, reliability


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_error_is_what_a_hand_computation_gives() -> None:
    probabilities = np.array([[0.05], [0.15], [0.95], [0.95]])
    truth = np.array([[False], [True], [True], [False]])
    # Widths: 0-0.1 misses by 0.05, 0.1-0.2 by 0.85, 0.9-1 (two films) by 0.45.
    expected = 0.25 * 0.05 + 0.25 * 0.85 + 0.5 * 0.45
    assert expected_calibration_error(truth, probabilities, binning="equal-width")[0] == pytest.approx(expected)
    # Two bins of two films each: means 0.1 and 0.95, one of two true in both.
    found = expected_calibration_error(truth, probabilities, bins=2, binning="equal-mass")
    assert found[0] == pytest.approx(0.5 * 0.4 + 0.5 * 0.45)


def test_right_probabilities_err_by_about_the_floor_and_wrong_ones_by_far_more(make_scores) -> None:
    truth, logits = make_scores(films=800)
    floor = calibration_floor(sigmoid(logits))
    right = expected_calibration_error(truth, sigmoid(logits)).mean()
    overconfident = expected_calibration_error(truth, sigmoid(3 * logits)).mean()
    assert 0.6 * floor < right < 1.5 * floor
    assert overconfident > 3 * floor


def test_a_reliability_curve_counts_every_film_and_rises(make_scores) -> None:
    truth, logits = make_scores(films=2000)
    bins = reliability(truth[:, 3], sigmoid(logits[:, 3]))
    assert sum(one.films for one in bins) == 2000
    assert [one.predicted for one in bins] == sorted(one.predicted for one in bins)
    assert bins[-1].observed > bins[0].observed + 0.3
