"""Recipes and data sets that cannot be trained on end in one clear line with status 2, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_training import PLOT, POSTER, write_recipe

from mmgcs.cli import main
from mmgcs.sample import sample_table

WITHOUT_WEIGHTS = {"encoder": {"kind": "resnet18", "options": {"weights": "none.pth"}}}


def refusal(capsys: pytest.CaptureFixture[str], recipe: Path, out: Path, data: Path | None = None) -> str:
    """The one line of a training that must be refused, and that leaves nothing behind."""
    status = main(["train", str(recipe), "--data", str(data or sample_table()), "--out", str(out), "--quiet"])
    captured = capsys.readouterr()
    assert (status, captured.out, captured.err.count("\n")) == (2, "", 1)
    assert not out.exists() or not list(out.iterdir())
    return captured.err.removeprefix("mmgcs: error: ").strip()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"plot": {**PLOT, "encoder": {"kind": "gpt"}}}, "plot.encoder: there is no encoder 'gpt'; known: "),
        (
            {"plot": {**PLOT, "encoder": {"kind": "bilstm_attention", "options": {"glove": "none.txt"}}}},
            "there are no word vectors at none.txt; get them with: mmgcs data glove",
        ),
        ({"plot": PLOT, "genres": ["Drama", "Opera"]}, "has no train film of Opera; leave the genre out"),
        ({"plot": PLOT, "target_source": "tmdb"}, "target_source is 'tmdb'; the data has"),
        (  # the second branch, before the first is trained
            {"plot": PLOT, "poster": WITHOUT_WEIGHTS, "fusion": {"holdout": 0.4}},
            "poster.encoder.weights: none.pth does not exist",
        ),
        (
            {"plot": PLOT, "poster": {**POSTER, "distill": {"teacher": "none"}}, "fusion": {"holdout": 0.4}},
            "no bundle at none: the folder does not exist",
        ),
    ],
)
def test_an_impossible_recipe_is_refused(tmp_path, capsys, parts, message):
    assert message in refusal(capsys, write_recipe(tmp_path / "r.yaml", **parts), tmp_path / "run")


@pytest.mark.parametrize(
    ("parts", "films", "message"),
    [
        ({"plot": PLOT}, ["Drama,train", "Drama,valid"], "has 1 genres to learn; at least two are needed"),
        ({"plot": PLOT}, ["Drama,train", "Drama|Comedy,valid"], "has no train film of Comedy; leave the genre out"),
        ({"plot": PLOT, "genres": "default"}, ["Drama,train", "Drama,valid"], "no train film of Action, Adventure, "),
        ({"plot": PLOT}, ["Drama|Comedy,train"], "no film with genres and the split 'valid'; run `mmgcs data split`"),
        ({"plot": PLOT}, ["Drama|Comedy,valid"], "no film with genres and the split 'train'; run `mmgcs data split`"),
        (
            {"poster": POSTER},
            ["Drama|Comedy,train", "Drama|Comedy,valid"],
            "the data has 0 train and 0 valid films with a poster; both are needed",
        ),
        (
            {"plot": PLOT, "poster": POSTER, "fusion": {}},
            ["Drama|Comedy,train", "Drama|Comedy,valid"],
            "the fusion needs train and valid films with both plot and poster; this data has too few",
        ),
    ],
)
def test_data_with_too_few_genres_films_or_inputs_is_refused(tmp_path, capsys, parts, films, message):
    recipe = write_recipe(tmp_path / "r.yaml", **{"genres": "data", **parts})
    table = tmp_path / "films.csv"
    rows = [f"f{number},A thief plans one last robbery.,{film}" for number, film in enumerate(films)]
    table.write_text("\n".join(["id,plot,genres,split", *rows]), encoding="utf-8")
    assert message in refusal(capsys, recipe, tmp_path / "run", table)


def test_a_table_without_a_column_of_genres_is_refused_with_the_columns_that_it_has(tmp_path, capsys):
    recipe = write_recipe(tmp_path / "r.yaml", plot=PLOT)
    films = tmp_path / "films.csv"
    films.write_text("id,plot,category,split\n1,a ghost,Horror,train\n", encoding="utf-8")
    line = refusal(capsys, recipe, tmp_path / "run", films)
    assert "films.csv has no column genres, genre or listed_in; its columns are id, plot, category, split" in line
