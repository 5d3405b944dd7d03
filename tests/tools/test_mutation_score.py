"""The score of `make mutation` counts what was tried, and is an error where it is low."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mutation_score import scores

SCRIPT = Path(__file__).parents[2] / "tools" / "mutation_score.py"
LINES = """    mmgcs.genres.x_spelling__mutmut_1: killed
    mmgcs.genres.x_spelling__mutmut_2: timeout
    mmgcs.genres.x__split__mutmut_1: survived
    mmgcs.genres.xǁVocabularyǁread__mutmut_12: no tests
    mmgcs.datasets.split.x__deal__mutmut_3: killed
    mmgcs.datasets.split.x__deal__mutmut_4: not checked
"""


def test_each_module_has_its_score_and_what_was_not_tried_is_left_out():
    assert scores(LINES.splitlines()) == {"mmgcs.datasets.split": (1, 1), "mmgcs.genres": (2, 4)}


def test_too_few_or_none_at_all_are_an_error():
    def status(lines: str, *options: str) -> int:
        command = [sys.executable, str(SCRIPT), *options]
        return subprocess.run(command, input=lines, text=True, encoding="utf-8", capture_output=True).returncode

    assert status(LINES) == 1
    assert status(LINES, "--least", "0.5") == 0
    assert status("") == 1
