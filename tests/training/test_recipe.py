"""A recipe refuses early what cannot work, and names the field."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mmgcs.errors import UsageError
from mmgcs.genres import DEFAULT_GENRES, TEN_GENRES
from mmgcs.models import ENCODERS, TokenEncoder
from mmgcs.training import read_recipe
from mmgcs.training.branch import make_encoder

RECIPES = Path(__file__).parents[2] / "recipes"
PLOT = "name: x\nplot: {encoder: {kind: transformer}}"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_in_the_repository_is_valid(path):
    assert read_recipe(path).name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x", "names neither `plot` nor `poster`"),
        (PLOT + "\nposters: {}", "posters: there is no such setting"),
        (
            PLOT[:-1] + ", training: {lr: -1}}",
            "plot.training.lr: must be above 0, not -1",
        ),
        (PLOT[:-1] + ", training: {epochs: 0}}", "plot.training.epochs: must be above 0, not 0"),
        (
            PLOT[:-1] + ", training: {epoch: 3}}",
            "plot.training.epoch: there is no such setting; did you mean 'epochs'? known: epochs, batch_size, lr, ",
        ),
        (
            PLOT + "\nsearch: {plot.training.lr: {lo: 1}}",
            "search.plot.training.lr.lo: there is no such setting; did you mean 'low'? known: choices, low, high, ",
        ),
        (
            PLOT[:-1] + ", training: {epochs: two}}",
            'epochs: must be a number, not "two"',
        ),
        ("name: x\ngenres: 5", "line 2, genres: must be 'default', 'ten' or 'data', or a list, not 5"),
        (PLOT + "\nfusion: {}", "a `fusion` of one input"),
        (PLOT + "\nposter: {encoder: {kind: resnet18}}", "no `fusion`"),
        ("name: x\nplot: {encoder: {kind: gpt}}", "line 2, plot.encoder: there is no encoder 'gpt'; known: "),
        (
            "name: x\nplot: {encoder: {kind: resnet18}}",
            "plot.encoder: resnet18 reads posters; known for plots: bilstm_attention, transformer",
        ),
        (
            PLOT[:-1] + ", augment: [{kind: word_dropout, options: {rate: 1}}]}",
            "plot.augment.0: options.rate: there is no such setting; word_dropout has share",
        ),
        (
            PLOT[:-1] + ", augment: [{kind: neighbours}]}",
            "plot.augment.0: options.glove is missing; neighbours has glove, share",
        ),
        ("name: x\nhead: {}\nfusion: {model: {kind: sum}}", "fusion.model: there is no fusion 'sum'; known: "),
        (PLOT[:-1] + ", training: {cutmix: 1}}", "cut and pasted; use mixup"),
        (PLOT[:-1] + ", distill: {}}", "plot.distill.teacher: is missing"),
        (
            "name: x\nposter: {encoder: {kind: resnet18}, distill: {teacher: plot}}",
            "distill.teacher: plot is for the posters of a recipe that also names `plot`",
        ),
        ("name: x\nposter: {encoder: {kind: resnet18}, token_bag: true}", "poster.token_bag: only plots have tokens"),
        ("name: x\ngenres: [A, A, B]\nplot: {encoder: {kind: transformer}}", "at least two, each once"),
        ("- a\n- b", "must be a YAML mapping"),
        ("name: [", "is not a YAML file"),
    ],
)
def test_a_wrong_recipe_gets_one_line_that_names_the_field(tmp_path, text, message):
    with pytest.raises(UsageError) as error:
        read_recipe(write(tmp_path / "r.yaml", text))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["none", "none.yaml", "recipes/none"])
def test_an_unknown_recipe_is_answered_with_the_known_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"no recipe '{name}'; known: default, english, finetune-head, .*; or give"):
        read_recipe(name)


def test_a_shipped_recipe_is_known_by_its_name_wherever_one_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "english").mkdir()  # a folder of that name is no recipe
    assert read_recipe("english") == read_recipe(RECIPES / "english.yaml")


def test_settings_on_the_command_line_win():
    recipe = read_recipe(RECIPES / "english.yaml", ["plot.training.epochs=1", "seed=3"])
    assert recipe.plot is not None
    assert recipe.plot.training.epochs == 1
    assert recipe.seed == 3


@pytest.mark.parametrize(("setting", "message"), [("seed=[", "is not YAML"), ("seed", "KEY=VALUE")])
def test_a_setting_that_is_no_key_and_value_is_refused(setting, message):
    with pytest.raises(UsageError, match=message):
        read_recipe(RECIPES / "english.yaml", [setting])


def test_all_mistakes_of_a_recipe_are_reported_at_once_with_key_and_line(tmp_path):
    text = "name: x\ngenres: 5\nplot:\n  encoder: {kind: gpt}\n  training:\n    epochs: two\n    lrr: 1\n"
    with pytest.raises(UsageError) as error:
        read_recipe(write(tmp_path / "r.yaml", text))
    first, _, mistakes = str(error.value).partition(" has 4 mistakes: ")
    assert first.endswith("r.yaml")
    places = [
        mistakes.find(f"{key}: ")
        for key in (
            "line 2, genres",
            "line 4, plot.encoder",
            "line 6, plot.training.epochs",
            "line 7, plot.training.lrr",
        )
    ]
    assert places[0] == 0 and places == sorted(places) and -1 not in places


@pytest.mark.parametrize(
    ("genres", "names"),
    [
        ("default", DEFAULT_GENRES),
        ("ten", TEN_GENRES),
        ("data", None),
        ("[Noir, Kaiju]", ("Film Noir", "Kaiju")),
        ("[Sci-Fi & Fantasy]", ("Science Fiction", "Fantasy")),
    ],
)
def test_genres_are_a_name_or_a_list_in_any_spelling(tmp_path, genres, names):
    assert read_recipe(write(tmp_path / "r.yaml", f"{PLOT}\ngenres: {genres}")).genre_list() == names


def test_an_encoder_that_passes_settings_on_may_have_any(tmp_path, monkeypatch):
    class Open(TokenEncoder):
        def __init__(self, width: int = 8, **options) -> None:
            super().__init__(**options)

    monkeypatch.setitem(ENCODERS._items, "open", Open)
    recipe = read_recipe(write(tmp_path / "r.yaml", "name: x\nplot: {encoder: {kind: open, options: {max_tokens: 9}}}"))
    assert make_encoder(recipe.plot).max_tokens == 9


def test_a_folder_named_wandb_is_not_the_package(tmp_path, monkeypatch):
    (tmp_path / "wandb").mkdir()  # as a run of wandb leaves it in the current folder
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(UsageError, match="logger: wandb is not installed; pip install wandb"):
        read_recipe(write(tmp_path / "r.yaml", PLOT), ["logger=wandb"])
