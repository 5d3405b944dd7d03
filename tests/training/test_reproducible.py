"""A recipe, a seed and a machine determine the bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_training import PLOT, POSTER, train_on_sample, write_recipe


@pytest.mark.slow
def test_two_runs_of_a_recipe_give_the_same_bytes(tmp_path: Path) -> None:
    parts = {
        "genres": ["Action", "Comedy", "Drama", "Horror"],
        "plot": {**PLOT, "int8": True, "token_bag": True},
        "poster": POSTER,
        "fusion": {"holdout": 0.3, "seen": 2, "training": {"epochs": 2}},
    }
    recipe = write_recipe(tmp_path / "tiny.yaml", **parts)
    first, second = (train_on_sample(recipe, tmp_path / name) for name in ("first", "second"))
    names = sorted(path.name for path in first.path.iterdir())
    assert names == sorted(path.name for path in second.path.iterdir())
    different = [name for name in names if (first.path / name).read_bytes() != (second.path / name).read_bytes()]
    assert different == []
