"""The MM-IMDb protocol from a folder in the archive's layout to its F1."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from tiny_training import PLOT, POSTER, write_recipe

from mmgcs.genres import MMIMDB_GENRES, parse_genres
from mmgcs.training import read_recipe

ROOT = Path(__file__).parents[2]


def write_mmimdb(root: Path) -> Path:
    """Write 207 films, nine per genre, three each in train, dev and test; a word of the plot names the genre."""
    films = root / "dataset"
    films.mkdir(parents=True)
    split: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for number in range(9 * len(MMIMDB_GENRES)):
        name, genre = f"{number:07d}", MMIMDB_GENRES[number // 9]
        plot = [
            f"A {genre.lower()} story of the year {number}.",
            f"A {genre.lower()} story of a man and a woman in love.",
        ]
        record = {"title": f"Film {number}", "year": 1950 + number % 60, "genres": [genre], "plot": plot}
        (films / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")
        Image.new("RGB", (20, 30), (number, 90, 200)).save(films / f"{name}.jpeg")
        split[list(split)[number % 3]].append(name)
    (root / "split.json").write_text(json.dumps(split), encoding="utf-8")
    return root


def test_the_recipe_learns_the_papers_23_genres() -> None:
    assert read_recipe(ROOT / "recipes" / "mmimdb.yaml").genre_list() == parse_genres("|".join(MMIMDB_GENRES))


@pytest.mark.slow
def test_the_protocol_runs_from_the_archives_folder_to_the_papers_metrics(tmp_path: Path) -> None:
    genres = yaml.safe_load((ROOT / "recipes" / "mmimdb.yaml").read_text(encoding="utf-8"))["genres"]
    fusion = {"training": {"epochs": 1}, "holdout": 0.2}
    recipe = write_recipe(tmp_path / "tiny.yaml", genres=genres, plot=PLOT, poster=POSTER, fusion=fusion)
    script = ROOT / "benchmarks" / "peers" / "mmimdb.py"
    command = [sys.executable, str(script), str(write_mmimdb(tmp_path / "mmimdb")), "--out", str(tmp_path / "run")]
    done = subprocess.run([*command, "--recipe", str(recipe)], capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "mmimdb.json").read_text(encoding="utf-8"))
    assert result["films"] == {"train": 69, "valid": 69, "test": 69}
    assert set(result["f1"]) == {"micro", "macro", "weighted", "samples"}
    assert all(0 <= score <= 1 for score in result["f1"].values())
    assert "F1 on test: micro" in done.stdout
