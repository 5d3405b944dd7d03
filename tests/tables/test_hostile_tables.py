"""No film of a table with every kind of damage is lost, and each problem is listed once, with its line."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "hostile_table.py"


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_nothing_is_lost_and_every_problem_is_listed_once(kind: str, tmp_path: Path, tiny_bundle: Path) -> None:
    wrong, said = runpy.run_path(str(BENCHMARK))["run"](tmp_path, 2000, kind, tiny_bundle)
    assert wrong == []
    assert "damaged in 1" in said  # in all ways there are, of which each format has fifteen or more
