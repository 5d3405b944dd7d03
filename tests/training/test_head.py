from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import polars
import pytest
from tiny_training import train_on_sample, write_recipe

from mmgcs import Film, GenreClassifier, load
from mmgcs.cli import main
from mmgcs.errors import UsageError
from mmgcs.runtime import verify
from mmgcs.sample import sample_table
from mmgcs.training import read_recipe, train
from mmgcs.training.head import LEAST_FILMS, logistic
from mmgcs.training.labelled import read_own

RECIPE = Path(__file__).parents[2] / "recipes" / "finetune-head.yaml"
# Other genres than the encoders' own, told by words that the tiny bundle's features react to.
OWN = {"Spooky": "ghost vampire haunted", "Sleuths": "detective murder gangster", "Bands": "band singer song"}


def write_films(path: Path, each: int = 20, *, splits: bool = False) -> Path:
    random = np.random.default_rng(0)
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "plot", "genres", *(["split"] if splits else [])])
        for number in range(each * 3):
            genre = list(OWN)[number % 3]
            words = random.choice(OWN[genre].split(), 2)
            plot = f"A {words[0]} and a {words[1]} in the city by night {number}"
            split = "test" if number % 5 == 0 else "train"
            writer.writerow([number, plot, genre, *([split] if splits else [])])
    return path


@pytest.fixture
def recipe(tiny_bundle: Path, tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "own.yaml", genres="data", head={"bundle": str(tiny_bundle), "strengths": [1, 10]})


@pytest.mark.parametrize("splits", [False, True])
def test_twenty_films_a_genre_give_a_bundle_for_own_genres(recipe, tmp_path, splits) -> None:
    table = write_films(tmp_path / "mine.csv", splits=splits)
    lines: list[str] = []
    bundle = train(recipe, table, tmp_path / "run", log=lines.append, progress=False)
    assert bundle.config.genres == ("Bands", "Sleuths", "Spooky")
    assert bundle.config.inputs == ("plot",)  # no film has a poster to learn from
    prediction = load(bundle.path).predict(plot="A haunted ghost in the village")
    assert prediction.top(1) == ("Spooky",)
    card = bundle.card()
    assert card["heads"]["refitted_on_all_films"] is not splits
    assert card["evaluation"]["conditions"][0]["tuned"]["micro_f1"]["value"] > 0.8
    assert all(check.passed for check in verify(bundle.path))
    text = bundle.read("CARD.md").decode()
    assert text.index("## Scores on test") < text.index("## Made by")
    assert "\n    a call from Python\n" in text and "- plot: `bag_of_words`.\n" in text
    assert "out-of-fold predictions of train and valid" in text and "is made on valid" not in text
    assert any(line.startswith("on test: all films (") and "macro-F1" in line for line in lines)


def test_posters_and_plots_get_shares_of_their_own(tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "own.yaml", head={"bundle": str(tiny_bundle), "folds": 3, "strengths": [10]})
    recipe = read_recipe(path, ["genres=[Drama, Comedy, Crime]", "languages=[en, de]"])
    bundle = train_on_sample(recipe, tmp_path / "run")
    assert bundle.config.languages == ("en", "de")
    assert set(bundle.config.decisions) == {"plot", "poster", "plot+poster"}
    film = Film(plot="A detective hunts a killer", poster=next(sample_table().parent.glob("posters/*.jpg")))
    (prediction,) = load(bundle.path).predict_batch([film])
    assert prediction.inputs == ("plot", "poster") and set(prediction.probabilities) == {"Drama", "Comedy", "Crime"}


def test_the_command_names_its_folder_after_the_recipe_and_can_be_resumed(
    recipe, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    table = write_films(tmp_path / "mine.csv")
    assert main(["train", str(recipe), "--data", str(table), "--json"]) == 0
    assert Path(json.loads(capsys.readouterr().out)["bundle"]) == Path("runs/own/bundle")
    assert main(["train", str(recipe), "--data", str(table), "--resume"]) == 0
    assert main(["train", str(recipe), "--data", str(table)]) == 2


def test_a_genre_with_too_few_films_is_left_out_or_refused_by_name(tmp_path: Path) -> None:
    table = write_films(tmp_path / "mine.csv", each=5)
    table.write_text(table.read_text(encoding="utf-8") + "x,A lone cowboy,Western\n", encoding="utf-8")
    assert read_own(table, None, None, LEAST_FILMS).genres == ("Bands", "Sleuths", "Spooky")
    with pytest.raises(UsageError, match="Western"):
        read_own(table, None, ["Sleuths", "Western"], LEAST_FILMS)


def test_heads_are_the_regularized_optimum_over_the_known_labels() -> None:
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    inputs = random.normal(size=(200, 5))
    truth = random.random((200, 2)) < 1 / (1 + np.exp(-inputs[:, :2] * 2))
    known = random.random((200, 2)) < 0.8
    weight = logistic(inputs, truth, known, 3.0, None)
    for genre in range(2):
        rows = known[:, genre]
        reference = LogisticRegression(C=1 / 3.0, tol=1e-8).fit(inputs[rows], truth[rows, genre])
        assert weight[:-1, genre] == pytest.approx(reference.coef_[0], abs=0.01)


def test_own_genres_are_fitted_in_python_as_with_scikit_learn(tiny_bundle: Path, tmp_path: Path) -> None:
    from sklearn.base import clone

    names = [name for name in OWN for _ in range(10)]
    plots = [f"A {word} in the city {number}" for name in OWN for number, word in enumerate(OWN[name].split() * 5)]
    plots = [plots[start + row] for start in (0, 15, 30) for row in range(10)]
    model = clone(GenreClassifier(bundle=str(tiny_bundle))).fit(plots, names)
    assert model.classes_ == ("Bands", "Sleuths", "Spooky")
    probabilities = model.predict_proba(["A haunted ghost", {"plot": "A gangster and a detective"}, ""])
    assert probabilities[:2].argmax(1).tolist() == [2, 1]
    assert np.isnan(probabilities[2]).all()
    assert model.predict(["A vampire and a ghost", ""]) == [("Spooky",), ()]
    model.save(tmp_path / "bundle")
    assert load(tmp_path / "bundle").predict(plot="A haunted ghost").top(1) == ("Spooky",)


def test_films_from_pandas_have_nan_where_nothing_is_known(tiny_bundle: Path) -> None:
    missing = float("nan")
    films = [
        {"plot": f"A {word} in the city {number}", "poster": missing, "title": missing}
        for name in OWN
        for number, word in enumerate(OWN[name].split() * 4)
    ]
    genres = [f"{name}|Films" if number % 2 else name for name in OWN for number in range(12)]
    model = GenreClassifier(bundle=str(tiny_bundle)).fit(films, genres)
    assert model.classes_ == ("Bands", "Films", "Sleuths", "Spooky")
    assert load(tiny_bundle).predict_batch([{"plot": "A haunted ghost", "poster": missing}])[0].error is None
    frame = polars.DataFrame({"title": ["A"], "plot": ["A haunted ghost"]})
    for predict in (model.predict, load(tiny_bundle).predict_batch):
        with pytest.raises(UsageError, match="as rows"):
            predict(frame)
