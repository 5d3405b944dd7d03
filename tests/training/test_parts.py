"""Losses, batches, schedule: the small parts of a training."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmgcs.evaluation import macro_average_precision
from mmgcs.film import Film
from mmgcs.models import ENCODERS
from mmgcs.progress import progress_bars
from mmgcs.sample import sample_films
from mmgcs.training.batches import Batches, BranchData, batches_by_length, cache_pays
from mmgcs.training.labelled import own_labels
from mmgcs.training.losses import LOSSES

SHARES = torch.tensor([0.5, 0.1])


def test_positive_weight_makes_a_missed_rare_genre_cost_more():
    loss = LOSSES["bce"](SHARES, positive_weight=1.0)
    miss = torch.tensor([[-2.0, -2.0]])
    common = loss(miss, torch.tensor([[1.0, 0.0]])).mean()
    rare = loss(miss, torch.tensor([[0.0, 1.0]])).mean()
    assert rare > 3 * common


def test_batches_hold_every_row_once_and_alike_lengths():
    rows = np.arange(1000)
    lengths = np.random.default_rng(0).integers(5, 200, 1000)
    batches = batches_by_length(rows, lengths, 16, seed=1)
    assert sorted(np.concatenate(batches)) == list(rows)
    spread = np.mean([np.ptp(lengths[batch]) for batch in batches])
    assert spread < 0.1 * np.ptp(lengths)
    again = batches_by_length(rows, lengths, 16, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


class Rows:
    lengths = np.ones(50, dtype=np.int64)

    def batch(self, rows, seed):
        return {"rows": rows.tolist(), "seed": seed}


def test_batches_continue_in_the_middle_of_an_epoch_with_exactly_the_batches_that_were_left():
    def loader():
        return Batches(Rows(), np.arange(50), 8, seed=3, shuffle=True)

    whole = loader()
    expected = list(whole) + list(whole)
    assert expected[:7] != expected[7:]
    for step in range(15):
        begun = loader()
        begun.skip_to(step)
        assert (list(begun) + list(begun))[: 14 - step] == expected[step:]


def test_a_perfect_ranking_of_the_known_labels_is_enough():
    truth = np.array([[1], [0], [0]], dtype=bool)
    scores = np.array([[0.5], [0.1], [0.9]])
    assert macro_average_precision(truth, scores) == 0.5
    assert macro_average_precision(truth, scores, np.array([[True], [True], [False]])) == 1.0


@pytest.mark.parametrize(
    ("freeze", "epochs", "views", "pays"), [(0, 9, 1, False), (1, 9, 1, False), (5, 3, 1, True), (5, 2, 2, False)]
)
def test_a_frozen_part_is_cached_only_if_that_saves_time(freeze, epochs, views, pays):
    encoder = ENCODERS["efficientnet_lite"](height=32, width_px=32, weights="none", freeze_until=freeze)
    assert cache_pays(encoder, epochs, views) is pays


def test_a_cached_batch_is_what_the_frozen_part_computes(tmp_path):
    films = [film for film in sample_films() if film.poster][:9]
    data = own_labels([replace(film, split="train") for film in films], None, 1, "the sample")
    encoder = ENCODERS["resnet18"](weights="none", height=32, width_px=24).eval()
    rows = np.arange(len(data.films))
    plain, cached = (BranchData(encoder, data, rows, views=2, progress=False) for _ in range(2))
    cached.cache_stem(tmp_path, torch.device("cpu"), lambda line: None)
    for chosen, seed in ((rows[[4, 2, 7]], None), (rows[3:6], 0), (rows[3:6], 1)):
        with torch.no_grad():
            expected = encoder.stem(plain.batch(chosen, seed)["inputs"])
        found = cached.batch(chosen, seed)["hidden"]
        assert torch.allclose(found, expected, atol=1e-2 * float(expected.abs().max()))


def test_plots_are_prepared_as_one_by_one_and_empty_ones_are_named():
    texts = [f"A thief plans robbery number {number}." for number in range(1500)]
    texts[700] = "\u200b"
    films = [Film(id=str(row), plot=text, title="T", genres=("Crime", "Drama")) for row, text in enumerate(texts)]
    data = own_labels(films, None, 1, "these films")
    encoder = ENCODERS["bilstm_attention"](tune=True, use_title=True)
    encoder.learn_words(texts)
    made = BranchData(encoder, data, np.arange(1500), views=2, progress=False)
    assert list(made.unreadable) == ["700"] and 700 not in made.rows
    preprocessor = encoder.preprocessor()
    for view, row in ((0, 3), (1, 3), (0, 701), (1, 1400)):
        (expected,) = preprocessor.prepare([replace(films[row], title=None if view else "T")])
        assert made._prepared[view][row].value.tolist() == expected.value.tolist()


def test_progress_in_a_file_is_plain_lines_with_share_rate_loss_and_time_left(capsys):
    with progress_bars(lines=0.0) as update:
        update("plot", 20, 40)  # what an interrupted run had done
        time.sleep(0.01)
        update("plot", 30, 40, "loss 0.2500")
    first, second = capsys.readouterr().err.splitlines()
    assert first == "plot: 50% (20 of 40)"
    assert re.fullmatch(r"plot: 75% \(30 of 40\), \d+\.\d a second, loss 0\.2500, 0 seconds left", second)
    with progress_bars(lines=0.0, enabled=False) as update:
        update("plot", 20, 40)
    assert capsys.readouterr().err == ""
