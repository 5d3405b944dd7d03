"""Posters that are damaged in any way are read or refused; none crashes, hangs or fills the memory."""

from __future__ import annotations

import runpy
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "damaged_images.py"


def test_no_damaged_picture_crashes_takes_two_seconds_or_fills_the_memory() -> None:
    # The whole corpus, with every byte changed, is the benchmark without --step.
    rows = runpy.run_path(str(BENCHMARK))["run"](120)
    assert [(row["picture"], row["wrong"]) for row in rows if row["wrong"]] == []
    hostile = rows.pop()
    assert hostile["picture"] == "hostile"
    assert (hostile["read"], hostile["refused"]) == (1, 19)  # of an endless Exif block only the orientation is left out
    assert len(rows) == 15
    assert sum(row["read"] + row["refused"] for row in rows) > 15_000
    assert all(row["refused"] > 100 and row["read"] > 0 for row in rows)
