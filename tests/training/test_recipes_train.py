"""Every recipe in the repository trains, on the sample and with small settings, to a bundle that predicts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_training import train_on_sample

from mmgcs.runtime import load
from mmgcs.sample import sample_films
from mmgcs.training import read_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
# Fewer epochs and smaller models; what the recipe says of optimiser, schedule, views and augmentation stays.
SMALLER = {
    "text-quick": ["plot.encoder.options.hidden=16", "plot.encoder.options.glove={glove}"],
    "text-original": ["plot.encoder.options.hidden=16", "plot.encoder.options.glove={glove}"],
    "poster-original": [
        "poster.encoder.options.weights=none",
        "poster.encoder.options.height=48",
        "poster.encoder.options.width_px=32",
    ],
}
WITHOUT_TORCH = """
import sys
learning = ("torch", "pytorch_lightning", "transformers", "sklearn", "mmgcs.training", "mmgcs.models")
sys.modules.update(dict.fromkeys(learning))
from mmgcs.cli import main
sys.exit(main(["verify", sys.argv[1]]))
"""
SMALL_POSTER = ["poster.encoder.options.height=64", "poster.encoder.options.width_px=48"]
SMALL_PLOT = ["plot.encoder.options.max_tokens=32", "plot.encoder.options.freeze_layers=5"]


def smaller(name: str, glove: Path) -> list[str]:
    if name in SMALLER:
        return [setting.format(glove=glove) for setting in SMALLER[name]]
    # Encoders that no package carries are replaced by one that a package does.
    packaged = ["plot.encoder.options.source=all-MiniLM-L6-v2"] if name in ("default", "large") else []
    if name == "default":
        packaged += [f"{branch}.distill.teacher=default" for branch in ("plot", "poster")]  # its own takes hours
    if name == "large":
        packaged.append("poster.encoder.options.variant=lite0")
    return [*packaged, *(SMALL_PLOT if name != "poster" else []), *(SMALL_POSTER if name != "text" else [])]


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_trains_to_a_bundle_that_predicts(path, tmp_path):
    glove = tmp_path / "vectors.txt"
    glove.write_text("the 0.1 0.2 0.3 0.4\nthief 0.4 0.3 0.2 0.1\n", encoding="utf-8")
    recipe = read_recipe(path)
    settings = [*smaller(path.stem, glove), *(f"{branch}.training.epochs=1" for branch in recipe.branches)]
    if recipe.fusion is not None:
        settings += ["fusion.training={epochs: 2}", "fusion.holdout=0.3"]  # the sample has few films with both
    if recipe.head is not None:
        settings = ["head.strengths=[30]"]
    if path.stem == "mmimdb":
        settings.append("genres=default")  # the sample has not all 23
    recipe = read_recipe(path, settings)
    bundle = train_on_sample(recipe, tmp_path / "run")
    classifier = load(bundle.path)
    films = [film for film in sample_films() if film.plot and film.poster][:3]
    for prediction in classifier.predict_batch(films):
        assert prediction.error is None
        assert prediction.inputs == bundle.config.inputs
        assert set(prediction.probabilities) == set(recipe.genre_list() or bundle.config.genres)
    # Whole, predicting, and as its card says, where importing torch or what trained it fails.
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, str(bundle.path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
