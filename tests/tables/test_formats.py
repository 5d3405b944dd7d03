"""A format of tables is one registration, and every command knows it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mmgcs.tables import PACKED, READERS, WRITERS

NEW = """
import sys
from pathlib import Path
from mmgcs.tables import READERS, WRITERS
from mmgcs.tables.delimited import read_csv
from mmgcs.tables.writers import write_jsonl

READERS.register(".psv")(lambda path, delimiter: read_csv(path, "|"))
WRITERS.register(".psv")(write_jsonl)

from mmgcs.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", NEW, *arguments], cwd=folder, capture_output=True, text=True)


def words(number: int) -> str:
    """Return a plot like no other."""
    return " ".join(f"{word}{number}" for word in ("ghost", "haunts", "the", "village", "at", "night"))


def test_a_new_format_is_tagged_split_and_written(tmp_path: Path, tiny_bundle: Path) -> None:
    rows = [f"{n}|{words(n)}|{('Horror', 'Drama')[n % 2]}" for n in range(40)]
    (tmp_path / "films.psv").write_text("\n".join(["ID|Plot|Genres", *rows]) + "\n", encoding="utf-8")
    done = run(tmp_path, "tag", "films.psv", "--out", "tagged.psv", "--model", os.fspath(tiny_bundle))
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "tagged.psv").read_text(encoding="utf-8").splitlines()) == 40
    done = run(tmp_path, "data", "split", "films.psv", "--out", "split.csv")
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "split.csv").read_text(encoding="utf-8").splitlines()) == 41


def test_what_is_read_can_be_written_but_for_workbooks() -> None:
    assert set(READERS) - set(WRITERS) == {".xlsx"}
    assert set(WRITERS) <= set(READERS)
    assert {".parquet", ".pq", ".xlsx"} == PACKED


PLUGIN = """
from mmgcs.tables.delimited import read_csv

def read(path, delimiter):
    return read_csv(path, "^")

def write(rows, out, types):
    out.write_text("^".join(types))
"""


def test_another_package_brings_a_format(tmp_path: Path) -> None:
    (tmp_path / "caret.py").write_text(PLUGIN, encoding="utf-8")
    info = tmp_path / "caret-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: caret\nVersion: 1.0\n", encoding="utf-8")
    points = "[mmgcs.readers]\n.caret = caret:read\n[mmgcs.writers]\n.caret = caret:write\n"
    (info / "entry_points.txt").write_text(points, encoding="utf-8")
    (tmp_path / "films.caret").write_text("id^plot\n1^A ghost.\n", encoding="utf-8")
    code = (
        "from pathlib import Path; from mmgcs.tables import read_films, write_table; "
        "write_table([], Path('out.caret'), {'id': 'text', 'plot': 'text'}); "
        "print([f.plot for c in read_films('films.caret') for f in c])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "['A ghost.']", done.stderr
    assert (tmp_path / "out.caret").read_text(encoding="utf-8") == "id^plot"
