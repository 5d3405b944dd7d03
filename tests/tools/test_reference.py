"""The reference pages are generated from the code, complete and up to date."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import reference
import yaml
from pydantic import BaseModel

from mmgcs.cli import COMMANDS
from mmgcs.training.recipe import BranchRecipe, FusionRecipe, Optimization, Recipe
from mmgcs.web import Settings


def test_every_command_has_its_section_and_every_option_a_meaning() -> None:
    commands = reference.commands()
    assert {command.words[1] for command in commands} == set(COMMANDS)
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


def test_the_generated_parts_of_the_pages_are_up_to_date() -> None:
    assert list(reference.stale_pages()) == [], "run `make reference`"


def test_an_outdated_page_is_found_and_a_part_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "cli.md"
    page.write_text(
        "# Commands\n\n<!-- generated: commands -->\nan outdated line\n<!-- end -->\n\nThe end.\n", encoding="utf-8"
    )
    (stale,) = reference.stale_pages(tmp_path).values()
    assert "## mmgcs predict" in stale
    assert "an outdated line" not in stale
    assert stale.endswith("The end.\n")
    with pytest.raises(KeyError):
        reference.filled("<!-- generated: nothing -->\n<!-- end -->\n")


def test_the_schema_of_recipes_accepts_the_shipped_ones_and_refuses_a_misspelt_setting() -> None:
    schema = json.loads((reference.ROOT / "docs/reference/recipe.schema.json").read_text(encoding="utf-8"))
    for path in (reference.ROOT / "recipes").glob("*.yaml"):
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
        jsonschema.validate(recipe, schema)
        with pytest.raises(jsonschema.ValidationError, match="sead"):
            jsonschema.validate({**recipe, "sead": 1}, schema)


def test_every_public_name_of_the_package_is_described() -> None:
    page = reference.python_markdown()
    for name in ("load", "tag", "explain", "Classifier", "Film", "Prediction"):
        assert f"## mmgcs.{name}\n" in page
    assert "### Classifier.predict\n" in page


def test_usage_shows_arguments_that_may_be_left_out() -> None:
    usage = {" ".join(command.words): command.usage for command in reference.commands()}
    assert usage["mmgcs tag"].startswith("mmgcs tag [FILMS]")


def test_every_setting_of_the_server_has_its_variable_its_default_and_its_meaning() -> None:
    page = reference.settings_markdown()
    assert "| `MMGCS_MAX_BODY` | 12582912 | Bytes in a request, except for an uploaded table. |" in page
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `MMGCS_")]
    assert [row[0].strip("`") for row in rows] == [f"MMGCS_{name.upper()}" for name in Settings.model_fields]
    assert all(len(row) == 3 and row[1] and len(row[2]) > 10 for row in rows)


def test_the_original_address_for_plots_takes_forms_as_well() -> None:
    assert "application/x-www-form-urlencoded" in reference.http_markdown()
