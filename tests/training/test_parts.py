"""Losses, batches, schedule: the small parts of a training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmgcs.models import TokenEncoder
from mmgcs.training.batches import Batches, batches_by_length, cache_pays
from mmgcs.training.losses import make_loss
from mmgcs.training.module import macro_average_precision
from mmgcs.training.progress import StageProgress

SHARES = torch.tensor([0.5, 0.1])


def test_positive_weight_makes_a_missed_rare_genre_cost_more():
    loss = make_loss("bce", {"positive_weight": 1.0}, SHARES)
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


def test_processes_share_each_batch_so_that_its_mean_loss_is_that_of_one_process(monkeypatch):
    class Weighted(Rows):
        def batch(self, rows, seed):
            return {"loss": np.sqrt(rows), "weight": np.ones(len(rows))}

    def batches(rank, world_size):
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: world_size)
        return list(Batches(Weighted(), np.arange(50), 7, 3, shuffle=True))

    expected = [batch["loss"].mean() for batch in batches(0, 1)]
    parts = zip(*(batches(rank, 3) for rank in range(3)), strict=True)
    means = [np.mean([(part["loss"] * part["weight"]).mean() for part in step]) for step in parts]
    assert np.allclose(means, expected)


def test_a_perfect_ranking_of_the_known_labels_is_enough():
    truth = np.array([[1], [0], [0]], dtype=bool)
    scores = np.array([[0.5], [0.1], [0.9]])
    assert macro_average_precision(truth, scores) == 0.5
    assert macro_average_precision(truth, scores, np.array([[True], [True], [False]])) == 1.0


@pytest.mark.parametrize(
    ("freeze", "epochs", "views", "pays"), [(0, 9, 1, False), (1, 9, 1, False), (5, 3, 1, True), (5, 2, 2, False)]
)
def test_a_frozen_part_is_cached_only_if_that_saves_time(freeze, epochs, views, pays):
    class Frozen(TokenEncoder):
        def stem_is_frozen(self):
            return freeze > 0

        def frozen_share(self):
            return freeze / 6

    assert cache_pays(Frozen(), epochs, views) is pays


def test_progress_in_a_file_is_plain_lines_with_share_loss_rate_and_time_left(capsys, monkeypatch):
    monkeypatch.setattr("mmgcs.training.progress.INTERVAL", 0.0)
    progress = StageProgress("plot", 40, "batches")
    progress.update(10, loss=0.25)
    progress.close()
    first, second, last = capsys.readouterr().err.splitlines()
    assert first == "plot: 0% (0 of 40 batches)"
    assert second.startswith("plot: 25% (10 of 40 batches), loss 0.2500, ")
    assert "left" in second and "\x1b" not in second
    assert last.startswith("plot: 25%")
    StageProgress("plot", 40, "batches", enabled=False).close()
    assert capsys.readouterr().err == ""
