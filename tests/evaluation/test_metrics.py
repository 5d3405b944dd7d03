from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from mmgcs.evaluation.metrics import Measured, Scores, average_precision, choose, resample

NAMES = ("A", "B", "C", "D", "E", "F")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def score(truth, probabilities, thresholds, **draws) -> Scores:
    return Measured(truth, probabilities, choose(probabilities, thresholds), **draws).scores(NAMES)


@pytest.mark.parametrize("average", ["micro", "macro", "samples", "weighted"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_f1_equals_scikit_learns(make_scores, average, seed) -> None:
    truth, logits = make_scores(seed=seed)
    truth[:5] = False  # films with none of the genres
    chosen = choose(sigmoid(logits), np.linspace(0.3, 0.7, 6))
    ours = Measured(truth, logits, chosen, bootstrap=0).estimate(f"{average}_f1").value
    assert ours == pytest.approx(reference.f1_score(truth, chosen, average=average, zero_division=0), abs=1e-6)


def test_precision_recall_and_f1_of_each_genre_equal_scikit_learns(make_scores) -> None:
    truth, logits = make_scores()
    truth[:, 1] = False  # a genre that no film has
    chosen = choose(sigmoid(logits), 0.5)
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
