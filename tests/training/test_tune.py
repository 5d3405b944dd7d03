"""A search tries settings, drops hopeless trials, goes on after a kill, and writes the best recipe."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_training import PLOT, POSTER, errors, run_command, write_recipe

from mmgcs.errors import UsageError
from mmgcs.sample import sample_table
from mmgcs.training import read_recipe, search_settings

pytestmark = pytest.mark.usefixtures("one_thread")

SEARCH = {
    "plot.training.lr": {"low": 1e-4, "high": 0.1, "log": True},
    "plot.training.batch_size": {"low": 8, "high": 16, "whole": True},
    "plot.encoder.options.dropout": [0.0, 0.5],
}


def search(recipe: Path, out: Path, **options):
    return search_settings(read_recipe(recipe), sample_table(), None, out, log=lambda _: None, **options)


def command(recipe: Path, out: Path, *more: str) -> list[str]:
    start = [sys.executable, "-m", "mmgcs", "tune", str(recipe), "--data", str(sample_table()), "--out", str(out)]
    return [*start, *more]


def states(out: Path) -> list[str]:
    with sqlite3.connect(f"file:{out / 'study.db'}?mode=ro", uri=True) as study:
        return [row[0] for row in study.execute("select state from trials")]


@pytest.mark.slow
def test_a_search_writes_its_best_recipe_its_trials_and_pictures_and_can_be_resumed(tmp_path):
    recipe, out = write_recipe(tmp_path / "r.yaml", plot=PLOT, search=SEARCH), tmp_path / "search"
    found = search(recipe, out, trials=4)
    assert sum(found.trials.values()) == 4
    assert set(found.settings) == set(SEARCH)
    best = read_recipe(found.recipe)
    assert best.search == {}
    assert best.plot is not None
    assert best.plot.training.lr == found.settings["plot.training.lr"]
    assert best.plot.training.batch_size in range(8, 17)
    assert best.plot.encoder.options["dropout"] in (0.0, 0.5)
    with (out / "trials.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    # The first trial is the recipe as it stands.
    assert float(rows[0]["plot.training.lr"]) == 0.01
    assert max(float(row["valid_map"]) for row in rows if row["state"] == "complete") == found.score
    for picture in ("history", "importance"):
        assert (out / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    assert not list(out.rglob("*.ckpt"))
    with pytest.raises(UsageError, match="--resume"):
        search(recipe, out, trials=5)
    again = search(recipe, out, trials=5, resume=True)
    assert sum(again.trials.values()) == 5
    assert again.score >= found.score
    other = write_recipe(tmp_path / "other.yaml", plot=PLOT, search={"plot.training.lr": [0.1, 0.2]})
    with pytest.raises(UsageError, match="another recipe"):
        search(other, out, trials=5, resume=True)


@pytest.mark.slow
def test_a_trial_that_is_worse_than_most_were_ends_early(tmp_path):
    training = {**PLOT["training"], "epochs": 4}
    rates = {"plot.training.lr": [0.02, 1e-9], "plot.training.head_lr": [0.02, 1e-9]}
    recipe = write_recipe(tmp_path / "r.yaml", plot={**PLOT, "training": training}, search=rates)
    found = search(recipe, tmp_path / "search", trials=9)
    assert found.trials["pruned"] > 0
    assert found.settings["plot.training.head_lr"] == 0.02


@pytest.mark.slow
def test_workers_share_a_search_and_a_killed_one_is_resumed_to_its_number_of_trials(tmp_path):
    recipe, out = write_recipe(tmp_path / "r.yaml", plot=PLOT, search=SEARCH), tmp_path / "search"
    process = subprocess.Popen(command(recipe, out, "--trials", "50"), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    try:
        while not ((out / "study.db").is_file() and "COMPLETE" in finished(out)) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    before = len([state for state in states(out) if state in ("COMPLETE", "PRUNED", "FAIL")])
    assert 1 <= before < 50
    done = run_command(command(recipe, out, "--trials", str(before + 2), "--workers", "2", "--resume", "--json"))
    assert done.returncode == 0, done.stderr
    assert errors(done.stderr) == []
    answer = json.loads(done.stdout)
    # A worker that has begun a trial ends it.
    assert before + 2 <= sum(answer["trials"].values()) <= before + 3
    assert read_recipe(Path(answer["recipe"])).name == "tiny"


def finished(out: Path) -> list[str]:
    try:
        return states(out)
    except sqlite3.OperationalError:  # the tables are being made
        return []


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({}, "no `search`; name settings there, such as plot.training.lr: {low: 1.0e-5, high: 1.0e-3, log: true}"),
        ({"plot.training.lrr": [1.0]}, "plot.training.lrr: there is no such setting"),
        ({"plot.encoder.options.hiden": [8]}, "plot.encoder: options.hiden: there is no such setting"),
        ({"plot.training.lr": [-1.0]}, "plot.training.lr: must be above 0, not -1.0"),
        ({"poster.training.lr": [0.1]}, "only settings of plot can be searched"),
        ({"plot.training.lr": {"low": 2, "high": 1}}, "search.plot.training.lr: "),
    ],
)
def test_what_cannot_be_searched_is_refused_before_any_trial(tmp_path, places, message):
    recipe = write_recipe(tmp_path / "r.yaml", plot=PLOT, search=places)
    with pytest.raises(UsageError) as error:
        search(recipe, tmp_path / "search")
    assert message in str(error.value)
    assert not (tmp_path / "search").exists()


def test_posters_cannot_learn_from_plots_that_a_search_does_not_train(tmp_path):
    poster = {**POSTER, "distill": {"teacher": "plot"}}
    places = {"poster.training.lr": [0.1, 0.2]}
    recipe = write_recipe(tmp_path / "r.yaml", plot=PLOT, poster=poster, fusion={}, search=places)
    with pytest.raises(UsageError, match=r"add --set poster\.distill=null"):
        search(recipe, tmp_path / "search")


def test_a_plot_is_read_from_the_named_column(tmp_path):
    recipe = write_recipe(tmp_path / "r.yaml", plot=PLOT, search=SEARCH)
    with pytest.raises(UsageError, match="Handlung"):
        search(recipe, tmp_path / "search", columns={"plot": "Handlung"})
