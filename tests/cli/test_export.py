"""`mmgcs export`: a run's bundle as it is, in int8, or under a size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tiny_training import write_recipe
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertConfig, BertModel

from mmgcs.bundle import DEFAULT_BUNDLE, Bundle
from mmgcs.cli import main
from mmgcs.export import is_int8
from mmgcs.runtime import load, verify
from mmgcs.sample import sample_films, sample_table
from mmgcs.training import read_recipe, train

DATA = ["--data", str(sample_table()), "--posters", str(sample_table().parent)]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Train a small transformer from random weights, without int8."""
    folder = tmp_path_factory.mktemp("run")
    words = {word for film in sample_films() for word in (film.plot or "").lower().replace(".", " .").split()}
    vocabulary = ["[PAD]", "[UNK]", *sorted(words)]
    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=256,
        max_position_embeddings=64,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder / "encoder")
    tokenizer.save(str(folder / "encoder" / "tokenizer.json"))
    options = {"source": str(folder / "encoder"), "max_tokens": 48, "freeze_layers": 0}
    training = {"epochs": 1, "batch_size": 8, "lr": 1e-3, "head_lr": 1e-2}
    plot = {"encoder": {"kind": "transformer", "options": options}, "training": training, "int8": False}
    recipe = read_recipe(write_recipe(folder / "recipe.yaml", plot=plot))
    train(recipe, sample_table(), folder / "run", log=lambda line: None, progress=False)
    return folder / "run"


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*"))


def probabilities(path: Path) -> np.ndarray:
    films = [film for film in sample_films() if film.plot]
    return np.array([list(found.probabilities.values()) for found in load(path).predict_batch(films)])


def test_the_bundle_of_a_run_is_copied(run, tmp_path, capsys):
    assert main(["export", str(run), "--out", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["table"] == []
    assert Bundle(tmp_path / "out").files == Bundle(run / "bundle").files
    assert Bundle(tmp_path / "out").check() == []
    # a bundle that is small enough needs no films
    assert main(["export", str(tmp_path / "out"), "--out", str(tmp_path / "again"), "--max-size-mb", "99"]) == 0
    assert Bundle(tmp_path / "again").files == Bundle(run / "bundle").files


def test_default_is_the_bundle_in_the_package(tmp_path):
    assert main(["export", "default", "--out", str(tmp_path / "out")]) == 0
    assert Bundle(tmp_path / "out").config == Bundle(DEFAULT_BUNDLE).config


def test_int8_shrinks_the_graph_refits_the_decisions_and_is_on_the_card(run, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", str(run), "--out", str(out), "--int8", *DATA]) == 0
    assert "| before |" in capsys.readouterr().out
    assert is_int8(onnx.load(out / "plot.onnx"))
    assert (out / "plot.onnx").stat().st_size < 0.4 * (run / "bundle" / "plot.onnx").stat().st_size
    assert Bundle(out).config.decisions != Bundle(run / "bundle").config.decisions
    card = Bundle(out).card()
    assert card["compression"]["plan"] == {"tokens": "int8"}
    assert card["compression"]["made_from"]["name"] == "tiny"
    before, after = card["compression"]["table"]
    assert before["megabytes"] > after["megabytes"] > 0
    assert 0 <= after["valid_macro_f1"]["plot"] <= 1
    assert card["command"].startswith("mmgcs export run --out out --int8")
    assert all(check.passed for check in verify(out))
    assert np.abs(probabilities(out) - probabilities(run / "bundle")).max() < 0.1
    # a second time there is nothing to do
    assert main(["export", str(out), "--out", str(tmp_path / "again"), "--int8", *DATA]) == 0
    assert Bundle(tmp_path / "again").files == Bundle(out).files


@pytest.mark.parametrize("share", [0.75, 0.35])
def test_the_bundle_is_under_the_size(run, tmp_path, share, capsys):
    megabytes = round(share * size_of(run / "bundle") / 1e6, 3)
    out = tmp_path / "out"
    assert main(["export", str(run), "--out", str(out), "--max-size-mb", str(megabytes), *DATA, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert size_of(out) <= megabytes * 1e6
    before, chosen = value["table"]
    assert before["megabytes"] > chosen["megabytes"]
    assert chosen["megabytes"] == pytest.approx(size_of(out) / 1e6, abs=0.006)
    assert all(check.passed for check in verify(out))
    assert "Made smaller" in (out / "CARD.md").read_text(encoding="utf-8")
    assert load(out).predict(plot="A ghost haunts a village at night.").error is None


def test_a_bundle_of_plots_and_posters_goes_to_int8_with_posters_only(tiny_bundle, tmp_path, capsys):
    command = ["export", str(tiny_bundle), "--out", str(tmp_path / "out"), "--int8"]
    assert main([*command, *DATA]) == 0
    assert all(check.passed for check in verify(tmp_path / "out"))
    assert set(Bundle(tmp_path / "out").config.decisions) == {"plot", "poster", "plot+poster"}
    bare = tmp_path / "plots.csv"
    lines = sample_table().read_text(encoding="utf-8")
    bare.write_text(lines.replace("posters/", ""), encoding="utf-8")  # the posters are not at these paths
    assert main(["export", str(tiny_bundle), "--out", str(tmp_path / "b"), "--int8", "--data", str(bare)]) == 2
    assert "no film of split valid has a poster" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_an_impossible_export_is_refused_in_one_line_and_writes_nothing(run, tmp_path, capsys):
    def refused(*args: str) -> str:
        assert main(["export", *args]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
        assert line.startswith("mmgcs: error: ")
        assert not (tmp_path / "out").exists()
        return line

    out = ["--out", str(tmp_path / "out")]
    assert "give --data FILMS" in refused(str(run), *out, "--int8")
    assert "give --data FILMS" in refused(str(run), *out, "--max-size-mb", "0.4")
    line = refused(str(run), *out, "--max-size-mb", "0.01", *DATA)
    assert "the smallest size it can reach; give --max-size-mb that much or more" in line
    assert "is not a bundle" in refused(str(tmp_path), *out)
    half = tmp_path / "half"
    shutil.copytree(run, half, ignore=shutil.ignore_patterns("bundle"))
    assert "is not finished; resume it" in refused(str(half), *out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine", encoding="utf-8")
    assert "is not empty" in refused(str(run), "--out", str(tmp_path / "full"))
    assert (tmp_path / "full" / "mine.txt").read_text(encoding="utf-8") == "mine"
