"""The reference pages are made from the code and say all that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import reference
from pydantic import BaseModel

from mmgcs.cli.main import available
from mmgcs.errors import UsageError
from mmgcs.training.recipe import BranchRecipe, FusionRecipe, Optimization, Recipe


def test_every_command_has_its_section_and_every_option_a_meaning() -> None:
    commands = reference.commands()
    assert {command.words[1] for command in commands} == set(available())
    for command in commands:
        assert command.help, command.words
        for option in command.options:
            assert option.help, (command.words, option.names)


@pytest.mark.parametrize("model", [Recipe, BranchRecipe, Optimization, FusionRecipe], ids=lambda model: model.__name__)
def test_every_setting_of_a_recipe_is_described(model: type[BaseModel]) -> None:
    section = reference.recipes_markdown().split(f"## {model.__name__}:")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split(" | ")] for line in section.splitlines() if line.startswith("| `")]
    assert [row[0].strip("| `") for row in rows] == list(model.model_fields)
    assert all(len(row[-1].strip(" |")) > 5 for row in rows)


def test_every_dependency_says_what_it_is_for() -> None:
    rows = [line.split(" | ") for line in reference.dependencies_markdown().splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[0] != "| package"]
    assert len(rows) > 30
    assert [row[0] for row in rows if len(row[1].strip(" |")) < 4] == []


def test_every_address_and_value_of_the_server_is_on_its_page() -> None:
    page = reference.http_markdown()
    for address in ("POST /predict", "POST /predict_image", "POST /api/v1/predict", "POST /api/v1/batch"):
        assert f"| `{address}` |" in page
    linked = set(re.findall(r"\]\(#(\w+)\)", page))
    assert linked <= {name.lower() for name in re.findall(r"^### (\w+)$", page, re.MULTILINE)}


def test_a_page_gets_what_it_asks_for_and_an_unknown_wish_is_refused() -> None:
    assert "## mmgcs predict" in reference.page(Path("cli.md"), "# Commands\n\n<!-- generated: commands -->\n")
    assert "ResNet-18" in reference.page(Path("recipes.md"), "<!-- generated: techniques -->")
    assert "Calibration" in reference.page(Path("card.md"), "<!-- generated: model card -->")
    with pytest.raises(UsageError, match="known: commands"):
        reference.page(Path("cli.md"), "<!-- generated: nothing -->")
