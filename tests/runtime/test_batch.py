"""Tables are tagged whole, in order, in every format, and a killed run continues to the same bytes."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mmgcs import load
from mmgcs.errors import UsageError
from mmgcs.film import Film
from mmgcs.machine import cores
from mmgcs.runtime import Classifier
from mmgcs.runtime.batch import Summary, error_kind, predict_chunks
from mmgcs.sample import sample_table
from mmgcs.tables import CHUNK, FilmTable
from mmgcs.tagging.pipeline import partial_folder, tag_table

TABLE = """id,plot,genres,poster,rating
a,Two detectives hunt a killer,Drama,,8.5
b,,,,7
c,Love in the city,,none.jpg,
d,A ghost,,../outside.jpg,6
e,ragged
f,A band in the city,Sci-Fi / Music,,5
"""


@pytest.fixture
def classifier(tiny_bundle: Path) -> Classifier:
    return load(tiny_bundle)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    path = tmp_path / "films.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_film_is_written_in_order_with_its_error_or_answer(
    classifier: Classifier, films: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    summary = tag_table(classifier, FilmTable(films), out)
    rows = lines(out)
    assert [row["id"] for row in rows] == list("abcdef")
    assert [row["error"] is None for row in rows] == [True, False, True, False, False, True]
    assert rows[0]["genres"] == ["Crime", "Thriller"]
    assert list(rows[0]["probabilities"]) == list(classifier.genres)
    assert rows[5]["given_genres"] == ["Science Fiction", "Music"]
    assert rows[2]["warnings"] and "none.jpg does not exist" in rows[2]["warnings"][0]
    assert rows[2]["inputs"] == ["plot"]
    assert [row["rating"] for row in rows] == ["8.5", "7", "", "6", None, "5"]
    assert (summary.films, summary.in_error, summary.genres["Music"]) == (6, 3, 1)
    assert not partial_folder(out).exists()


def test_csv_has_genres_joined_and_a_column_a_probability(classifier: Classifier, films: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    tag_table(classifier, FilmTable(films), out)
    with out.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert rows[0]["genres"] == "Crime|Thriller"
    assert rows[0]["error"] == ""
    assert float(rows[0]["p_Crime"]) > 0.9
    assert rows[1]["p_Crime"] == ""
    assert rows[5]["given_genres"] == "Science Fiction|Music"
    assert [row["plot"] for row in rows][-1] == "A band in the city"


def test_parquet_has_typed_columns_and_the_same_rows(classifier: Classifier, films: Path, tmp_path: Path) -> None:
    tag_table(classifier, FilmTable(films), tmp_path / "out.parquet")
    tag_table(classifier, FilmTable(films), tmp_path / "out.jsonl")
    frame = pl.read_parquet(tmp_path / "out.parquet")
    assert frame.schema["genres"] == pl.List(pl.String)
    assert frame.schema["probabilities"] == pl.Struct(dict.fromkeys(classifier.genres, pl.Float64))
    for row, other in zip(frame.to_dicts(), lines(tmp_path / "out.jsonl"), strict=True):
        assert {**row, "probabilities": row["probabilities"] or {}} == other


def test_compressed_output_holds_the_same_bytes_every_time(classifier: Classifier, films: Path, tmp_path: Path) -> None:
    for name in ("one.csv.gz", "two.csv.gz", "plain.csv"):
        tag_table(classifier, FilmTable(films), tmp_path / name)
    one, two = ((tmp_path / name).read_bytes() for name in ("one.csv.gz", "two.csv.gz"))
    assert one == two
    assert gzip.decompress(one) == (tmp_path / "plain.csv").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"films.csv", "one.csv.gz", "two.csv.gz", "plain.csv"}


def test_columns_of_parquet_keep_their_types(classifier: Classifier, tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": [1, 2], "plot": ["love", "ghost"], "votes": [10, None], "mean": [0.5, 1.5]})
    frame.write_parquet(tmp_path / "films.parquet")
    tag_table(classifier, FilmTable(tmp_path / "films.parquet"), tmp_path / "out.parquet")
    result = pl.read_parquet(tmp_path / "out.parquet")
    assert result.select("votes", "mean").equals(frame.select("votes", "mean"))


def test_an_integer_of_more_than_64_bits_is_kept_as_text(classifier: Classifier, tmp_path: Path) -> None:
    ids = pl.Series("isan", [2**64 - 1, 5, None], dtype=pl.UInt64)
    pl.DataFrame({"plot": ["love", "ghost", "band"]}).with_columns(ids).write_parquet(tmp_path / "films.parquet")
    tag_table(classifier, FilmTable(tmp_path / "films.parquet"), tmp_path / "out.parquet")
    assert pl.read_parquet(tmp_path / "out.parquet")["isan"].to_list() == ["18446744073709551615", "5", None]


def test_an_output_that_is_tagged_again_keeps_its_old_answer(
    classifier: Classifier, films: Path, tmp_path: Path
) -> None:
    tag_table(classifier, FilmTable(films), tmp_path / "one.jsonl")
    tag_table(classifier, FilmTable(tmp_path / "one.jsonl"), tmp_path / "two.jsonl")
    first, *_ = lines(tmp_path / "two.jsonl")
    assert first["genres"] == first["given_genres"] == ["Crime", "Thriller"]
    assert first["given_confidence"] == first["confidence"]


def test_an_output_that_exists_is_replaced_only_when_asked(classifier: Classifier, films: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="exists; give --overwrite"):
        tag_table(classifier, FilmTable(films), out)
    assert out.read_text(encoding="utf-8") == "mine"
    tag_table(classifier, FilmTable(films), out, overwrite=True)
    assert out.read_text(encoding="utf-8").startswith("id,genres")


def test_an_unknown_output_format_is_refused_before_any_work(
    classifier: Classifier, films: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"no output format '\.xlsx'; known: \.csv, \.jsonl"):
        tag_table(classifier, FilmTable(films), tmp_path / "out.xlsx")
    assert {path.name for path in tmp_path.iterdir()} == {"films.csv"}


class Stop(Exception):
    pass


def stop_after_first(done: int, summary: Summary) -> None:
    raise Stop


@pytest.fixture
def long_table(tmp_path: Path) -> Path:
    plots = ["Two detectives hunt a killer", "love in the city", "", "a ghost " * 20, "the band"]
    path = tmp_path / "long.csv"
    rows = "".join(f"{number % 900},{plots[number % 5]},{number}\n" for number in range(3 * CHUNK))
    path.write_text(f"id,plot,note\n{rows}", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
def test_a_run_that_was_cut_off_continues_to_the_same_bytes(
    classifier: Classifier, long_table: Path, tmp_path: Path, name: str
) -> None:
    whole, broken = tmp_path / f"whole-{name}", tmp_path / f"broken-{name}"
    tag_table(classifier, FilmTable(long_table), whole)
    with pytest.raises(Stop):
        tag_table(classifier, FilmTable(long_table), broken, progress=stop_after_first)
    assert not broken.exists()
    with (partial_folder(broken) / "records.jsonl").open("ab") as handle:
        handle.write(b'{"id": "half a rec')  # what a kill in the middle of a write leaves
    with pytest.raises(UsageError, match=r"unfinished run .* --resume"):
        tag_table(classifier, FilmTable(long_table), broken)
    summary = tag_table(classifier, FilmTable(long_table), broken, resume=True)
    assert broken.read_bytes() == whole.read_bytes()
    assert summary.films == 3 * CHUNK


def test_a_run_of_other_films_or_another_model_is_not_continued(
    classifier: Classifier, long_table: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(Stop):
        tag_table(classifier, FilmTable(long_table), out, progress=stop_after_first)
    other = Path(shutil.copytree(tiny_bundle, tmp_path / "other"))
    with (other / "manifest.json").open("a") as handle:
        handle.write(" ")
    with pytest.raises(UsageError, match="had another model"):
        tag_table(load(other), FilmTable(long_table), out, resume=True)
    with long_table.open("a") as handle:
        handle.write("new,film,1\n")
    with pytest.raises(UsageError, match="had another films"):
        tag_table(classifier, FilmTable(long_table), out, resume=True)
    assert tag_table(classifier, FilmTable(long_table), out, overwrite=True).films == 3 * CHUNK + 1


def test_resume_without_an_unfinished_run_begins_one(classifier: Classifier, films: Path, tmp_path: Path) -> None:
    assert tag_table(classifier, FilmTable(films), tmp_path / "out.csv", resume=True).films == 6


def test_kill_9_at_any_moment_loses_nothing(long_table: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "mmgcs", "tag", str(long_table), "--model", str(tiny_bundle), "--out"]
    whole, killed = tmp_path / "whole.csv", tmp_path / "killed.csv"
    assert subprocess.run([*command, str(whole)], capture_output=True).returncode == 3
    state = partial_folder(killed) / "state.json"
    process = subprocess.Popen([*command, str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not state.exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if not killed.exists():
        done = subprocess.run([*command, str(killed), "--resume"], capture_output=True)
        assert done.returncode == 3, done.stderr
    assert killed.read_bytes() == whole.read_bytes()


def test_the_shipped_sample_is_tagged_without_an_error(classifier: Classifier, tmp_path: Path) -> None:
    summary = tag_table(classifier, FilmTable(sample_table()), tmp_path / "out.jsonl")
    assert summary.in_error == 0
    assert summary.films >= 40


def test_errors_are_counted_by_kind_and_not_by_film() -> None:
    one = error_kind("the poster /a/b.jpg does not exist; check the path")
    assert one == error_kind("the poster c/d.png does not exist; check the path")
    kinds = {
        error_kind(f"line {n} has {n} fields where the header has 9 (too many: 'x'); mend the row") for n in (3, 44)
    }
    assert len(kinds) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system keeps no process to some of its cores")
def test_a_process_that_is_kept_to_one_core_reads_and_predicts_with_one_thread(classifier: Classifier) -> None:
    def chunks() -> Iterator[list[Film]]:
        for start in range(0, 512, 256):
            yield [Film(id=str(number), plot="a ghost " * 500) for number in range(start, start + 256)]
            working.append(sum(thread.name.startswith("mmgcs-prepare") for thread in threading.enumerate()))

    working: list[int] = []
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cores() == 1
        assert sum(len(films) for films, _ in predict_chunks(classifier, chunks())) == 512
    finally:
        os.sched_setaffinity(0, before)
    assert working == [1, 1]
