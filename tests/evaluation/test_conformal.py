from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmgcs import Film, load
from mmgcs.bundle import CONFIG, Bundle, write_bundle
from mmgcs.cli import main
from mmgcs.evaluation import evaluate, fit_decision, to_markdown
from mmgcs.evaluation.calibration import fit_possible
from mmgcs.evaluation.report import score_sets
from mmgcs.runtime import log_odds, sigmoid


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_hold_every_genre_of_the_stated_share_of_unseen_films(make_scores, coverage: float) -> None:
    truth, logits = make_scores(films=8000)
    probabilities = sigmoid(logits)
    cut = fit_possible(probabilities[:2000], truth[:2000], coverage)
    assert score_sets(probabilities[2000:] >= cut, truth[2000:])["covered"] == pytest.approx(coverage, abs=0.02)


def test_the_coverage_holds_for_a_bad_model_too_with_larger_sets(make_scores) -> None:
    truth, logits = make_scores(films=8000)
    good = sigmoid(logits)
    bad = sigmoid(logits + 3 * np.random.default_rng(1).normal(size=logits.shape))
    scores = []
    for probabilities in (good, bad):
        cut = fit_possible(probabilities[:2000], truth[:2000])
        scores.append(score_sets(probabilities[2000:] >= cut, truth[2000:]))
    assert all(score["covered"] == pytest.approx(0.9, abs=0.02) for score in scores)
    assert scores[1]["size"] > scores[0]["size"] + 0.5


def test_few_films_promise_nothing_that_they_cannot_keep(make_scores) -> None:
    truth, logits = make_scores(films=8)
    assert fit_possible(sigmoid(logits), truth, 0.9) == 0.0


@pytest.fixture
def bundle_with_sets(tiny_bundle: Path, tmp_path: Path, make_scores) -> Path:
    """The tiny bundle whose plot decision is fitted, so that it states prediction sets for plots."""
    old = Bundle(tiny_bundle)
    truth, logits = make_scores(genres=10)
    decisions = {name: replace(decision, possible=0.05) for name, decision in old.config.decisions.items()}
    decisions["plot"] = fit_decision(logits, truth)
    config = replace(old.config, decisions=decisions)
    return write_bundle(tmp_path / "with-sets", config, lambda folder: old.copy_to(folder, without=(CONFIG,))).path


def test_a_prediction_names_the_genres_that_are_nearest_to_their_threshold(
    bundle_with_sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decision = Bundle(bundle_with_sets).config.decisions["plot"]
    prediction = load(bundle_with_sets).predict(plot="a ghost in a house")
    near = {
        genre
        for genre, at in zip(prediction.probabilities, decision.thresholds, strict=True)
        if abs(log_odds(prediction.probabilities[genre]) - log_odds(at)) < decision.margin
    }
    assert near
    assert set(prediction.undecided) == near
    assert list(prediction.undecided) == sorted(near, key=lambda genre: -prediction.probabilities[genre])
    assert main(["predict", "--model", str(bundle_with_sets), "--plot", "a ghost in a house"]) == 0
    assert f"Undecided: {', '.join(prediction.undecided)}." in capsys.readouterr().out


def test_a_prediction_says_which_genres_are_possible_and_holds_the_chosen_ones(bundle_with_sets: Path) -> None:
    prediction = load(bundle_with_sets).predict(plot="A detective hunts a killer in the haunted village.")
    cut = Bundle(bundle_with_sets).config.decisions["plot"].possible
    assert cut is not None
    assert prediction.possible[: len(prediction.genres)] == prediction.genres
    assert set(prediction.possible) == set(prediction.genres) | {
        genre for genre, probability in prediction.probabilities.items() if probability >= cut
    }


def test_the_report_says_what_the_sets_held(bundle_with_sets: Path) -> None:
    films = [Film(id=str(n), plot=f"A ghost {n} in a haunted village", genres=("Horror",)) for n in range(30)]
    report = evaluate(load(bundle_with_sets), films, bootstrap=0)
    sets = report.conditions[0].sets
    assert sets is not None and sets["covered"] == 1.0 and sets["size"] >= 1
    assert "## Prediction sets" in to_markdown(report)
