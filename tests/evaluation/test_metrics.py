from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from mmgcs.evaluation.metrics import (
    Measured,
    Scores,
    average_precision,
    calibration_floor,
    expected_calibration_error,
    reliability,
    resample,
)
from mmgcs.runtime import sigmoid

NAMES = ("A", "B", "C", "D", "E", "F")


def score(truth, probabilities, thresholds, **draws) -> Scores:
    return Measured(truth, probabilities, probabilities >= thresholds, **draws).scores(NAMES)


@pytest.mark.parametrize("average", ["micro", "macro", "samples", "weighted"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_f1_equals_scikit_learns(make_scores, average, seed) -> None:
    truth, logits = make_scores(seed=seed)
    truth[:5] = False  # films with none of the genres
    chosen = sigmoid(logits) >= np.linspace(0.3, 0.7, 6)
    ours = Measured(truth, logits, chosen, bootstrap=0).estimate(f"{average}_f1").value
    assert ours == pytest.approx(reference.f1_score(truth, chosen, average=average, zero_division=0), abs=1e-6)


def test_precision_recall_and_f1_of_each_genre_equal_scikit_learns(make_scores) -> None:
    truth, logits = make_scores()
    truth[:, 1] = False  # a genre that no film has
    chosen = sigmoid(logits) >= 0.5
    chosen[:, 2] = False  # a genre that is never chosen
    ours = Measured(truth, sigmoid(logits), chosen, bootstrap=0).scores(NAMES).genres
    expected = reference.precision_recall_fscore_support(truth, chosen, zero_division=0)
    for name, theirs in zip(("precision", "recall", "f1"), expected, strict=False):
        assert [getattr(genre, name).value for genre in ours] == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("digits", [7, 1], ids=["few ties", "many ties"])
def test_average_precision_equals_scikit_learns_also_for_a_resample(make_scores, digits) -> None:
    truth, logits = make_scores(films=300)
    scores = np.round(sigmoid(logits), digits)
    weights = resample(300, 3, seed=4)
    ours = average_precision(truth, scores, weights)
    for row in range(3):
        for genre in range(6):
            theirs = reference.average_precision_score(truth[:, genre], scores[:, genre], sample_weight=weights[row])
            assert ours[row, genre] == pytest.approx(theirs, abs=1e-5)
    np.testing.assert_allclose(
        average_precision(truth, scores), reference.average_precision_score(truth, scores, average=None), atol=1e-5
    )


def test_a_genre_that_no_film_has_is_undefined_and_left_out_of_the_mean(make_scores) -> None:
    truth, logits = make_scores()
    truth[:, 0] = False
    scores = score(truth, sigmoid(logits), 0.5, bootstrap=20)
    assert scores.genres[0].average_precision.value is None
    assert scores.genres[0].average_precision.low is None
    others = reference.average_precision_score(truth[:, 1:], logits[:, 1:], average="macro")
    assert scores.mean_average_precision.value == pytest.approx(others, abs=1e-5)


def test_the_interval_is_the_bootstraps_over_whole_films(make_scores) -> None:
    truth, logits = make_scores(films=200)
    probabilities = sigmoid(logits)
    found = score(truth, probabilities, 0.5, bootstrap=400, seed=3).micro_f1
    random = np.random.default_rng(3)
    drawn = random.multinomial(200, np.full(200, 1 / 200), size=400)
    plain = []
    for counts in drawn:
        rows = np.repeat(np.arange(200), counts)
        plain.append(reference.f1_score(truth[rows], probabilities[rows] >= 0.5, average="micro"))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(plain, [2.5, 97.5])), abs=1e-6)
    assert found.low < found.value < found.high


def test_equal_seeds_give_equal_scores_and_more_films_narrower_intervals(make_scores) -> None:
    truth, logits = make_scores(films=1600)
    all_films = score(truth, sigmoid(logits), 0.5, bootstrap=200)
    assert all_films == score(truth, sigmoid(logits), 0.5, bootstrap=200)
    some = score(truth[:100], sigmoid(logits[:100]), 0.5, bootstrap=200)
    assert all_films.macro_f1.high - all_films.macro_f1.low < 0.5 * (some.macro_f1.high - some.macro_f1.low)


def test_a_difference_is_surer_than_the_two_intervals_suggest(make_scores) -> None:
    truth, logits = make_scores(films=600)
    good = sigmoid(logits)
    worse = sigmoid(logits + np.random.default_rng(1).normal(scale=1.0, size=logits.shape))
    ours, theirs = (Measured(truth, p, p >= 0.4, bootstrap=300) for p in (good, worse))
    gain = ours.gain(theirs)["mean_average_precision"]
    apart = [score(truth, p, 0.4, bootstrap=300).mean_average_precision for p in (good, worse)]
    assert gain.value == pytest.approx(apart[0].value - apart[1].value)
    assert gain.low > 0
    assert gain.high - gain.low < sum(one.high - one.low for one in apart) * 0.7


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
