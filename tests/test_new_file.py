"""A new model or reader is one new file: nothing else names it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mmgcs

MODEL = """
from torch import nn
from mmgcs.models.base import ENCODERS
ENCODERS.register("mine")(nn.Identity)
"""
READER = """
from mmgcs.datasets.base import SOURCES, Source
from mmgcs.datasets.films import read_films
SOURCES.register("mine")(Source("mine", lambda path, columns: "plot" in columns, read_films, rank=1))
"""


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    shutil.copytree(Path(mmgcs.__file__).parent, folder / "mmgcs", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def run(folder: Path, code: str, *arguments: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_new_file_of_models_registers_itself(copied: Path) -> None:
    (copied / "mmgcs" / "models" / "mine.py").write_text(MODEL, encoding="utf-8")
    assert run(copied, "from mmgcs.models import ENCODERS; print('mine' in ENCODERS)") == "True"


def test_a_new_reader_registers_itself_and_reads_first_what_others_know_too(copied: Path, tmp_path: Path) -> None:
    (copied / "mmgcs" / "datasets" / "sources" / "mine.py").write_text(READER, encoding="utf-8")
    films = tmp_path / "films.csv"
    films.write_text("id,plot,genres\n1,a ghost,Horror\n", encoding="utf-8")
    code = "from pathlib import Path; from mmgcs.datasets import detect_source; print(detect_source(Path(sys.argv[1])))"
    assert run(copied, f"import sys; {code}", films) == "mine"
