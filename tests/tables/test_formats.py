"""A table format is one registration, perhaps in another package, and every command supports it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mmgcs.tables import PACKED, READERS, WRITERS

PLUGIN = """
from mmgcs.tables.delimited import read_csv
from mmgcs.tables.writers import write_jsonl

def read(path, delimiter):
    return read_csv(path, "^")
"""


def test_a_format_of_another_package_is_tagged_split_and_written(tmp_path: Path, tiny_bundle: Path) -> None:
    (tmp_path / "caret.py").write_text(PLUGIN, encoding="utf-8")
    info = tmp_path / "caret-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: caret\nVersion: 1.0\n", encoding="utf-8")
    points = (
        "[mmgcs.readers]\n.caret = caret:read\n.broken = caret:missing\n[mmgcs.writers]\n.caret = caret:write_jsonl\n"
    )
    (info / "entry_points.txt").write_text(points, encoding="utf-8")
    words = ("ghost", "haunts", "the", "village", "at", "night")
    plots = [" ".join(f"{word}{n}" for word in words) for n in range(40)]
    rows = [f"{n}^{plot}^{('Horror', 'Drama')[n % 2]}" for n, plot in enumerate(plots)]
    (tmp_path / "films.caret").write_text("\n".join(["ID^Plot^Genres", *rows]) + "\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    for call, lines in (
        (["tag", "films.caret", "--out", "tagged.caret", "--model", os.fspath(tiny_bundle)], 40),
        (["data", "split", "films.caret", "--out", "split.csv"], 41),
    ):
        command = [sys.executable, "-m", "mmgcs", *call]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert "the plugin '.broken' of mmgcs.readers could not be loaded" in done.stderr
        out = tmp_path / call[call.index("--out") + 1]
        assert len(out.read_text(encoding="utf-8").splitlines()) == lines


def test_what_is_read_can_be_written_but_for_workbooks() -> None:
    assert set(READERS) - set(WRITERS) == {".xlsx"}
    assert set(WRITERS) <= set(READERS)
    assert {".parquet", ".pq", ".xlsx"} == PACKED
