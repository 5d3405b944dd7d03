"""A recipe, a seed and a machine determine the bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_training import PLOT, POSTER, write_recipe

from mmgcs.sample import sample_table
from mmgcs.training import read_recipe, train


@pytest.mark.slow
def test_two_runs_of_a_recipe_give_the_same_bytes(tmp_path: Path) -> None:
    parts = {
        "genres": ["Action", "Comedy", "Drama", "Horror"],
        "plot": {**PLOT, "int8": True, "token_bag": True},
        "poster": POSTER,
        "fusion": {"holdout": 0.3, "seen": 2, "training": {"epochs": 2}},
    }
    recipe = read_recipe(write_recipe(tmp_path / "tiny.yaml", **parts))
    table = sample_table()
    first, second = (
        train(recipe, table, tmp_path / name, posters=table.parent, log=lambda _: None, progress=False)
        for name in ("first", "second")
    )
    names = sorted(path.name for path in first.path.iterdir())
    assert names == sorted(path.name for path in second.path.iterdir())
    different = [name for name in names if (first.path / name).read_bytes() != (second.path / name).read_bytes()]
    assert different == []
