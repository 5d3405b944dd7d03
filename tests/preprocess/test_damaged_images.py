"""Posters that are damaged in any way are read or refused; none crashes, hangs or fills the memory."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "damaged_images.py"


@pytest.mark.slow
def test_no_damaged_picture_crashes_takes_two_seconds_or_fills_the_memory() -> None:
    # The benchmark without --step changes every byte.
    rows = runpy.run_path(str(BENCHMARK))["run"](120)
    assert [(row["picture"], row["wrong"]) for row in rows if row["wrong"]] == []
    assert len(rows) == 12
    assert sum(row["read"] + row["refused"] for row in rows) > 12_000
    assert all(row["refused"] > 100 and row["read"] > 0 for row in rows)
