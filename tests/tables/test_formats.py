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
from mmgcs.tables import register_format
from mmgcs.tables.readers import read_csv
from mmgcs.tables.writers import write_jsonl

register_format(".psv", read=lambda path, delimiter: read_csv(path, "|"), write=write_jsonl)

from mmgcs.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", NEW, *arguments], cwd=folder, capture_output=True, text=True)


def test_a_new_format_is_tagged_split_and_written(tmp_path: Path, tiny_bundle: Path) -> None:
    rows = [f"{n}|a ghost haunts the village {n}|{('Horror', 'Drama')[n % 2]}" for n in range(40)]
    (tmp_path / "films.psv").write_text("\n".join(["ID|Plot|Genres", *rows]) + "\n", encoding="utf-8")
    done = run(tmp_path, "tag", "films.psv", "--out", "tagged.psv", "--model", os.fspath(tiny_bundle))
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "tagged.psv").read_text(encoding="utf-8").splitlines()) == 40
    done = run(tmp_path, "data", "split", "films.psv", "--out", "split.csv")
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "split.csv").read_text(encoding="utf-8").splitlines()) == 41


def test_what_is_read_can_be_written_and_only_parquet_is_packed() -> None:
    assert list(READERS) == list(WRITERS)
    assert {".parquet", ".pq"} == PACKED
