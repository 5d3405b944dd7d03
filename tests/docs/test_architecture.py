"""The architecture page traces four calls through the code: they really run through the files that it names."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
from tiny_training import PLOT, write_recipe

import mmgcs
from mmgcs.cli import main
from mmgcs.sample import sample_table
from mmgcs.web import create_app

ROOT = Path(__file__).parents[2]
PACKAGE = f"{Path(mmgcs.__file__).parent}/"
FUNCTION = 1  # the flag of a function's code (CO_OPTIMIZED); modules and class bodies lack it


def traces() -> dict[str, list[str]]:
    """The files of each trace, by the first word of its heading."""
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    section = page.partition("## Follow")[2].partition("\n## ")[0]
    found = re.findall(r"^\*\*(?:An? )?(\w+)(.*?)(?=^\*\*|\Z)", section, re.MULTILINE | re.DOTALL)
    return {word: re.findall(r"`([\w/]+\.py)`", text) for word, text in found}


def entered(call: Callable[[], object]) -> set[str]:
    """The files of the package in which a call runs a function."""
    files: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_flags & FUNCTION and frame.f_code.co_filename.startswith(PACKAGE):
            files.add(frame.f_code.co_filename.removeprefix(PACKAGE))

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return files


def test_each_trace_names_at_most_eight_files_each_once() -> None:
    assert list(traces()) == ["film", "row", "recipe", "request"]
    for files in traces().values():
        assert 5 <= len(files) == len(set(files)) <= 8
        assert all(Path(PACKAGE, file).is_file() for file in files)


def test_a_film_runs_through_the_files_of_its_trace(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    poster = next((sample_table().parent / "posters").glob("*.jpg"))
    call = ["predict", "--model", str(tiny_bundle), "--plot", "A ghost haunts a house.", "--poster", str(poster)]
    assert set(traces()["film"]) <= entered(lambda: main(call))


def test_a_row_runs_through_the_files_of_its_trace(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["tag", str(sample_table()), "--out", str(tmp_path / "tagged.csv"), "--model", str(tiny_bundle)]
    assert set(traces()["row"]) <= entered(lambda: main(call))


def test_a_request_runs_through_the_files_of_its_trace(tiny_bundle: Path) -> None:
    client = create_app(tiny_bundle).test_client()
    plot = {"plot": "A ghost haunts a house."}
    assert set(traces()["request"]) <= entered(lambda: client.post("/api/v1/predict", json=plot))


@pytest.mark.slow
def test_a_recipe_runs_through_the_files_of_its_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path / "tiny.yaml", plot=PLOT)
    call = ["train", str(recipe), "--data", str(sample_table()), "--out", str(tmp_path / "run"), "--quiet"]
    assert set(traces()["recipe"]) <= entered(lambda: main(call))
