"""A training from recipe to bundle, on the shipped sample, with the real encoders."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import polars
import pytest
import torch
from safetensors.torch import load_file
from tiny_training import PLOT, POSTER, run_command, train_command, train_on_sample, write_recipe

import mmgcs
from mmgcs.bundle import Bundle
from mmgcs.errors import MmgcsError, UsageError
from mmgcs.sample import sample_films, sample_table
from mmgcs.training import Recipe, read_recipe
from mmgcs.training.branch import make_encoder
from mmgcs.training.module import BranchModule
from mmgcs.training.trainer import read_curve

RECIPES = Path(__file__).parents[2] / "recipes"
# The default recipe, made small enough for seconds.
SMALL = [
    "plot.encoder.options.freeze_layers=5",
    "plot.encoder.options.max_tokens=48",
    "plot.training.epochs=2",
    "plot.training.batch_size=8",
    "plot.training.validations=1",
    "poster.encoder.options.height=64",
    "poster.encoder.options.width_px=48",
    "poster.encoder.options.freeze_until=7",
    "poster.training.epochs=1",
    "poster.training.batch_size=8",
    "fusion.training.epochs=2",
    "fusion.holdout=0.3",
    "plot.int8_may_cost=100",
    "poster.int8_may_cost=100",
]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return read_recipe(RECIPES / "english.yaml", SMALL)


@pytest.fixture(scope="module")
def trained(recipe, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "small"
    train_on_sample(recipe, out, command="mmgcs train recipes/english.yaml")
    return out


def test_a_training_ends_in_a_bundle_that_is_whole_and_predicts_from_either_input(trained):
    assert Bundle(trained / "bundle").check() == []
    classifier = mmgcs.load(trained / "bundle")
    poster = next((sample_table().parent / "posters").glob("*.jpg"))
    both = classifier.predict(plot="A ghost haunts an old house.", poster=poster)
    plot = classifier.predict(plot="A ghost haunts an old house.")
    alone = classifier.predict(poster=poster)
    assert (both.inputs, plot.inputs, alone.inputs) == (("plot", "poster"), ("plot",), ("poster",))
    assert both.probabilities != plot.probabilities
    assert all(0.0 <= p <= 1.0 for p in both.probabilities.values())


def test_the_card_says_what_it_was_made_from_and_measured(trained):
    card = Bundle(trained / "bundle").card()
    assert card["command"] == "mmgcs train recipes/english.yaml"
    assert len(card["data"]["sha256"]) == 64
    assert card["versions"]["torch"]
    names = [condition["name"] for condition in card["evaluation"]["conditions"]]
    assert {"plot and poster", "plot only", "poster only"} <= set(names)
    assert "int8 costs" in Bundle(trained / "bundle").read("CARD.md").decode()


def test_the_bundle_predicts_what_torch_predicts_up_to_quantisation(recipe, trained):
    films = [film for film in sample_films() if film.plot][:12]
    encoder = make_encoder(recipe.plot)
    encoder.load_state_dict(load_file(trained / "plot" / "encoder.safetensors"))
    encoder.eval()
    preprocessor = encoder.preprocessor()
    inputs = preprocessor.collate(preprocessor.prepare(films))
    with torch.no_grad():
        expected = encoder(*(torch.from_numpy(value) for value in inputs.values())).numpy()
    exact = ort.InferenceSession(trained / "plot" / "float.onnx").run(["features"], inputs)[0]
    width = expected.shape[1]  # the rest is the linear model of the tokens, which is not this encoder's
    assert np.abs(exact[:, :width] - expected).max() < 1e-4
    small = mmgcs.load(trained / "bundle").features(films).values["plot"][:, :width]
    assert np.abs(small - expected).max() < 0.25 * np.abs(expected).max()


def test_training_leaves_the_statistics_of_batchnorm_as_they_were(recipe, trained):
    before, after = make_encoder(recipe.poster).state_dict(), load_file(trained / "poster" / "encoder.safetensors")
    statistics = {name for name in before if "running" in name}
    assert statistics
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    assert not torch.equal(before["head.conv.weight"], after["head.conv.weight"])


def test_curves_are_written_as_table_picture_and_tensorboard(trained):
    with (trained / "plot" / "curves" / "version_0" / "metrics.csv").open(encoding="utf-8") as handle:
        assert any(row["valid_map"] for row in csv.DictReader(handle))
    assert read_curve(trained / "plot", "valid_map")
    assert (trained / "plot" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((trained / "plot" / "tensorboard").glob("events.*"))


def test_a_run_is_not_overwritten_and_resuming_a_finished_one_changes_nothing(recipe, trained):
    before = (trained / "bundle" / "manifest.json").read_bytes()
    with pytest.raises(UsageError, match="--resume"):
        train_on_sample(recipe, trained)
    with pytest.raises(UsageError, match="another recipe"):
        train_on_sample(recipe.model_copy(update={"seed": 99}), trained, resume=True)
    train_on_sample(recipe, trained, resume=True)
    assert (trained / "bundle" / "manifest.json").read_bytes() == before


@pytest.mark.slow
def test_mixed_precision_trains_a_model_whose_bundle_computes_with_32_bits(tmp_path):
    recipe = write_recipe(tmp_path / "r.yaml", precision="bf16-mixed", poster=POSTER)
    bundle = train_on_sample(recipe, tmp_path / "run")
    (branch,) = bundle.config.branches
    assert (tmp_path / "run" / branch.name / "last.ckpt").is_file()
    weights = onnx.load(str(bundle.path / branch.graph)).graph.initializer
    kinds = {weight.data_type for weight in weights}
    assert onnx.TensorProto.FLOAT in kinds
    assert not kinds & {onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT16}
    assert any(prediction.genres for prediction in mmgcs.load(bundle.path).predict_batch(sample_films()))


def test_with_an_average_the_kept_weights_are_the_moving_average_of_those_of_each_step(tmp_path, monkeypatch):
    steps: list[dict[str, torch.Tensor]] = []

    def remember(self, *_):
        steps.append({name: value.clone() for name, value in self.encoder.state_dict().items()})

    monkeypatch.setattr(BranchModule, "on_train_batch_end", remember)
    settings = {**PLOT["training"], "epochs": 1, "average": 0.8}
    train_on_sample(write_recipe(tmp_path / "r.yaml", plot={**PLOT, "training": settings}), tmp_path / "run")
    assert len(steps) > 2
    for name, value in load_file(tmp_path / "run" / "plot" / "encoder.safetensors").items():
        average = steps[0][name]
        for step in steps[1:]:
            average = 0.8 * average + 0.2 * step[name]
        torch.testing.assert_close(value, average)


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_training_is_logged_to_mlflow(tmp_path, one_thread, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from mlflow import MlflowClient

    recipe = write_recipe(tmp_path / "r.yaml", plot=PLOT, logger="mlflow")
    train_on_sample(recipe, tmp_path / "run")
    client = MlflowClient(f"sqlite:///{tmp_path}/run/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    (logged,) = client.search_runs([experiment.experiment_id])
    scores = [metric.value for metric in client.get_metric_history(logged.info.run_id, "valid_map")]
    assert logged.info.run_name == "plot"
    assert scores == pytest.approx([score for _, score in read_curve(tmp_path / "run" / "plot", "valid_map")])
    assert not (tmp_path / "run" / "plot" / "tensorboard").exists()


@pytest.mark.slow
def test_every_stage_is_a_run_of_its_own_in_weights_and_biases(tmp_path, one_thread, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    fusion = {"training": {"epochs": 1}, "holdout": 0.4}
    recipe = write_recipe(tmp_path / "r.yaml", logger="wandb", plot=PLOT, poster=POSTER, fusion=fusion)
    done = run_command(train_command(recipe, tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    for stage in ("plot", "poster", "fusion"):
        (logged,) = (tmp_path / "run" / stage / "wandb").glob("offline-run-*/run-*.wandb")
        assert b"valid_map" in logged.read_bytes()


@pytest.mark.filterwarnings("ignore")  # wandb's own
def test_weights_and_biases_without_an_account_is_one_clear_error(tmp_path, one_thread, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    recipe = write_recipe(tmp_path / "r.yaml", plot=PLOT, logger="wandb")
    with pytest.raises(MmgcsError, match="logger wandb: No API key configured"):
        train_on_sample(recipe, tmp_path / "run")


def test_a_table_with_other_column_names_is_trained_on(tmp_path: Path) -> None:
    films = polars.read_csv(sample_table())
    table = tmp_path / "works.csv"
    films.rename({"plot": "story", "genres": "kinds"}).write_csv(table)
    recipe = write_recipe(tmp_path / "tiny.yaml", genres=["Comedy", "Drama"], plot=PLOT)
    out = tmp_path / "run"
    command = train_command(recipe, out, "--columns", "plot=story", "genres=kinds", data=table)
    done = run_command(command)
    assert done.returncode == 0, done.stderr
    assert "--columns plot=story --columns genres=kinds" in Bundle(out / "bundle").card()["command"]
