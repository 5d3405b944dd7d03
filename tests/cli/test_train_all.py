"""`mmgcs train-all` does everything from a table to a report; a second run does only what is left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from http_server import Server, send

from mmgcs.bundle import Bundle
from mmgcs.cli import main
from mmgcs.runtime import load
from mmgcs.sample import sample_table
from mmgcs.training.train_all import read_recipes

SMALL = [
    "plot.encoder.options.hidden=16",
    "plot.encoder.options.max_tokens=48",
    "plot.training.epochs=1",
    "poster-original:poster.encoder.options.weights=none",
    "poster.encoder.options.height=48",
    "poster.encoder.options.width_px=32",
    "poster.training.epochs=1",
]


class Order:
    """Call `mmgcs train-all` on the sample, with posters and word vectors to fetch."""

    def __init__(self, folder: Path, url: str) -> None:
        self.out, self.vectors, self.source = folder / "runs", folder / "glove.6B.50d.txt", folder / "given.txt"
        self.table, self.posters = folder / "films.csv", folder / "posters"
        films = pl.read_csv(sample_table())
        names = films["poster"].fill_null("none.jpg").str.split("/").list.last()
        films = films.drop("poster").rename({"plot": "Handlung"}).with_columns(poster_url=url + "/" + names)
        films.write_csv(self.table)
        numbers = np.random.default_rng(0).normal(size=(3, 50)).round(3)
        words = zip(("the", "a", "man"), numbers, strict=True)
        self.source.write_text("".join(f"{word} {' '.join(map(str, row))}\n" for word, row in words), encoding="utf-8")

    def call(self, *more: str) -> int:
        args = ["train-all", "--data", str(self.table), "--posters", str(self.posters), "--out", str(self.out)]
        args += ["--columns", "plot=Handlung"]
        args += ["--recipes", "text-original,poster-original", "--glove", str(self.source), "--allow-private"]
        for setting in (f"plot.encoder.options.glove={self.vectors}", *SMALL):
            args += ["--set", setting]
        return main([*args, "--quiet", *more])


@pytest.fixture(scope="module")
def server():
    running = Server()
    for poster in (sample_table().parent / "posters").glob("*.jpg"):
        running.answers[f"/{poster.name}"] = send(poster.read_bytes())
    yield running
    running.close()


@pytest.fixture(scope="module")
def done(tmp_path_factory, server) -> Order:
    order = Order(tmp_path_factory.mktemp("all"), server.url)
    assert order.call() == 0
    return order


def test_the_plan_is_printed_and_nothing_is_done(tmp_path, server, capsys):
    order = Order(tmp_path, server.url)
    before = sum(server.seen.values())
    assert order.call("--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert [row["step"] for row in plan] == [
        "check",
        "glove",
        "posters",
        *(
            f"{what} {name}"
            for name in ("text-original", "poster-original")
            for what in ("train", "evaluate", "verify")
        ),
        "report",
    ]
    assert not any(row["done"] for row in plan)
    assert not order.out.exists()
    assert not order.posters.exists()
    assert not order.vectors.exists()
    assert sum(server.seen.values()) == before


@pytest.mark.slow
def test_missing_files_are_fetched_and_both_models_are_trained_and_verified(done):
    assert len(list(done.posters.glob("*.jpg"))) == len(list((sample_table().parent / "posters").glob("*.jpg")))
    assert done.vectors.is_file()
    for name, branch in (("text-original", "plot"), ("poster-original", "poster")):
        assert Bundle(done.out / name / "bundle").check() == []
        assert load(done.out / name / "bundle").bundle.config.inputs == (branch,)
    poster = next(done.posters.glob("*.jpg"))
    assert load(done.out / "poster-original" / "bundle").predict(poster=poster).error is None


@pytest.mark.slow
def test_the_report_has_scores_checks_and_curves(done):
    report = json.loads((done.out / "report.json").read_text(encoding="utf-8"))
    assert [model["recipe"] for model in report["models"]] == ["text-original", "poster-original"]
    assert all(model["verified"] for model in report["models"])
    assert report["models"][0]["curves"]["plot"]["valid_map"]
    assert report["data"]["splits"]["train"] == 21
    page = (done.out / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,iVBOR") == 2
    text = (done.out / "report.md").read_text(encoding="utf-8")
    for model in report["models"]:
        for score in model["scores"]:
            assert f"{score['macro_f1']['value']:.3f}" in text
        assert all((done.out / picture).is_file() and picture in text for picture in model["pictures"])


@pytest.mark.slow
def test_a_second_run_does_only_what_is_left(done, server, capsys):
    fetched = sum(server.seen.values())
    kept = (done.out / "poster-original" / "bundle" / "manifest.json").stat().st_mtime_ns
    assert done.call("--json") == 0
    assert json.loads(capsys.readouterr().out)["done"] == []
    (done.out / "text-original" / "verify.json").unlink()
    (done.out / "report.md").unlink()
    assert done.call("--json") == 0
    assert json.loads(capsys.readouterr().out)["done"] == ["verify text-original", "report"]
    assert sum(server.seen.values()) == fetched
    assert (done.out / "poster-original" / "bundle" / "manifest.json").stat().st_mtime_ns == kept


def test_a_setting_applies_to_the_recipes_that_have_it() -> None:
    recipes = read_recipes(["text", "finetune-head"], ["head.folds=3", "plot.training.epochs=1", "seed=5"])
    assert recipes["finetune-head"].head is not None and recipes["finetune-head"].head.folds == 3
    assert recipes["text"].head is None and recipes["text"].plot is not None
    assert recipes["text"].plot.training.epochs == 1
    assert {recipe.seed for recipe in recipes.values()} == {5}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--recipes", "text,nonsense"], "there is no recipe 'nonsense'; known: default, "),
        (["--recipes", "text,text"], "given twice"),
        (["--recipes", "text", "--set", "poster:seed=1"], "no recipe poster is trained; trained are text"),
        (["--recipes", "text-original", "--no-fetch"], "there are no word vectors at"),
        (["--recipes", "text-original", "--glove", "none.zip"], "--glove none.zip is not a file; give glove.6B.zip"),
        (["--recipes", "text", "--set", "plot.training.epoch=1"], "there is no such setting"),
    ],
)
def test_a_wrong_call_is_one_line_and_nothing_is_begun(tmp_path, capsys, monkeypatch, more, message):
    monkeypatch.chdir(tmp_path)
    assert main(["train-all", "--data", str(sample_table()), "--out", "runs", *more]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert message in told
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_if_no_poster_can_be_downloaded_the_run_ends_before_any_training_and_can_be_repeated(tmp_path, capsys):
    broken = Server()
    try:
        order = Order(tmp_path, broken.url)
        assert order.call("--recipes", "poster-original") == 1
        assert "posters could be downloaded (HTTP 404); fix that" in capsys.readouterr().err.splitlines()[-1]
        assert not (order.out / "poster-original").exists()
        for poster in (sample_table().parent / "posters").glob("*.jpg"):
            broken.answers[f"/{poster.name}"] = send(poster.read_bytes())
        assert order.call("--recipes", "poster-original", "--json") == 0
        assert json.loads(capsys.readouterr().out)["done"][0] == "posters"
    finally:
        broken.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda films: films.filter(pl.col("split") != "test"), "has no films of the split 'test'"),
        (lambda films: films.drop("split"), "mmgcs data split"),
    ],
)
def test_data_without_a_split_to_measure_on_is_refused_before_any_work(tmp_path, capsys, change, message):
    table = tmp_path / "films.csv"
    change(pl.read_csv(sample_table())).write_csv(table)
    assert main(["train-all", "--data", str(table), "--out", str(tmp_path / "runs"), "--recipes", "text"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_folder_with_other_files_is_refused_before_any_work(tmp_path, capsys):
    name = "report.html"
    mine = tmp_path / name
    mine.write_text('{"mine": 1}', encoding="utf-8")
    command = ["train-all", "--data", str(sample_table()), "--out", str(tmp_path), "--recipes", "text"]
    assert main(command) == 2
    assert f"{mine} exists and was not written by mmgcs train-all; give another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert mine.read_text(encoding="utf-8") == '{"mine": 1}'
