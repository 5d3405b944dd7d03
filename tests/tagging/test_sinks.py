"""Tables are tagged whole, in order, in every format, and an interrupted run resumes to the same bytes."""

from __future__ import annotations

import csv
import datetime
import gzip
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mmgcs import load
from mmgcs.errors import UsageError
from mmgcs.files import lock_folder
from mmgcs.film import Film
from mmgcs.runtime import Classifier
from mmgcs.tables import CHUNK, FilmTable
from mmgcs.tagging import TagOptions, TagSummary, is_finished, partial_folder, tag_table

TABLE = """id,plot,genres,poster,rating
a,Two detectives hunt a killer,Drama,,8.5
b,,,,7
c,Love in the city,,none.jpg,
d,A ghost,,../outside.jpg,6
e,ragged
f,A band in the city,Sci-Fi / Music,,5
"""
ANSWER = ["genres", "probabilities", "confidence", "sure", "error", "warnings", "inputs"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def films(tmp_path: Path) -> Path:
    path = tmp_path / "films.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def test_rows_keep_their_order_and_columns_and_the_answer_is_appended(
    classifier: Classifier, films: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    summary = tag_table(classifier, FilmTable(films), out)
    rows = lines(out)
    assert list(rows[0]) == ["id", "plot", "given_genres", "poster", "rating", *ANSWER]
    assert [row["id"] for row in rows] == list("abcdef")
    assert [row["given_genres"] for row in rows] == ["Drama", "", "", "", None, "Sci-Fi / Music"]
    assert [row["rating"] for row in rows] == ["8.5", "7", "", "6", None, "5"]
    assert [row["error"] is None for row in rows] == [True, False, True, False, False, True]
    assert rows[0]["genres"] == ["Crime", "Thriller"]
    assert list(rows[0]["probabilities"]) == list(classifier.genres)
    assert rows[2]["warnings"] and "none.jpg does not exist" in rows[2]["warnings"][0]
    assert rows[2]["inputs"] == ["plot"]
    assert (summary.films, summary.in_error, summary.genres["Music"]) == (6, 3, 1)
    assert not partial_folder(out).exists()


def test_csv_and_parquet_have_the_same_rows_as_json(classifier: Classifier, films: Path, tmp_path: Path) -> None:
    for name in ("out.jsonl", "out.csv", "out.parquet"):
        tag_table(classifier, FilmTable(films), tmp_path / name)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert (rows[0]["genres"], rows[0]["error"], rows[1]["p_Crime"]) == ("Crime|Thriller", "", "")
    assert float(rows[0]["p_Crime"]) > 0.9
    assert rows[5]["given_genres"] == "Sci-Fi / Music"
    frame = pl.read_parquet(tmp_path / "out.parquet")
    assert frame.schema["genres"] == pl.List(pl.String)
    assert frame.schema["probabilities"] == pl.Struct(dict.fromkeys(classifier.genres, pl.Float64))
    for row, other in zip(frame.to_dicts(), lines(tmp_path / "out.jsonl"), strict=True):
        assert {**row, "probabilities": row["probabilities"] or {}} == other


@pytest.mark.parametrize("name", ["one.jsonl", "one.csv", "one.parquet"])
def test_a_table_can_be_tagged_again_without_losing_a_column(
    classifier: Classifier, films: Path, tmp_path: Path, name: str
) -> None:
    tag_table(classifier, FilmTable(films), tmp_path / name)
    tag_table(classifier, FilmTable(tmp_path / name), tmp_path / "two.parquet")
    one = {".jsonl": pl.read_ndjson, ".csv": pl.read_csv, ".parquet": pl.read_parquet}[Path(name).suffix]
    first, second = one(tmp_path / name), pl.read_parquet(tmp_path / "two.parquet")
    assert len(set(second.columns)) == len(first.columns) + len(ANSWER)
    assert second.columns[:5] == ["id", "plot", "given_genres", "poster", "rating"]
    kept = second.columns[5 : -len(ANSWER)]
    assert kept == ["given_given_genres" if name == "genres" else f"given_{name}" for name in first.columns[5:]]
    assert second["given_error"][1] == second["error"][1]


def test_columns_of_parquet_keep_their_types(classifier: Classifier, tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "id": [1, 2],
            "plot": ["love", "ghost"],
            "mean": [0.5, None],
            "released": [datetime.date(1999, 3, 31), None],
            "seen": [None, datetime.datetime(2020, 1, 1, 12)],
            "cast": [["Ann", "Bo"], []],
            "poster": [None, None],
            "raw": [b"\x00\x01", None],
            "ean": pl.Series([2**64 - 1, None], dtype=pl.UInt64),
            "mark": pl.Series(["a", "b"], dtype=pl.Categorical),
        },
        schema_overrides={"poster": pl.String},
    )
    frame.write_parquet(tmp_path / "films.parquet")
    tag_table(classifier, FilmTable(tmp_path / "films.parquet"), tmp_path / "out.parquet")
    result = pl.read_parquet(tmp_path / "out.parquet")
    assert result.columns[: len(frame.columns)] == frame.columns
    assert result.select(frame.columns).schema == frame.schema
    assert result.select(frame.columns).to_dicts() == frame.to_dicts()
    tag_table(classifier, FilmTable(tmp_path / "films.parquet"), tmp_path / "out.csv")
    _, first, _ = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()
    assert first.startswith("1,love,0.5,1999-03-31,,Ann|Bo,,(2 bytes),18446744073709551615,a,")


def test_columns_of_json_lines_are_typed_by_all_their_values(classifier: Classifier, tmp_path: Path) -> None:
    rows = [
        {"plot": "love", "votes": 1, "mean": 1, "tags": ["a"], "mixed": 1, "huge": 1},
        {"plot": "ghost", "votes": 2, "mean": 0.5, "tags": [], "mixed": "x", "huge": 2**70, "late": {"deep": [1]}},
    ]
    (tmp_path / "films.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name in ("out.parquet", "out.jsonl", "out.csv"):
        tag_table(classifier, FilmTable(tmp_path / "films.jsonl"), tmp_path / name)
    assert pl.read_parquet_schema(tmp_path / "out.parquet").names()[-len(ANSWER) :] == list(ANSWER)
    found = pl.read_parquet(tmp_path / "out.parquet").drop(*ANSWER).to_dicts()
    assert found[0] == {**rows[0], "mixed": "1", "huge": "1", "late": None}
    assert found[1] == {**rows[1], "huge": str(2**70), "late": '{"deep": [1]}'}
    assert [{name: row[name] for name in row if name not in ANSWER} for row in lines(tmp_path / "out.jsonl")] == rows
    assert (tmp_path / "out.csv").read_text(encoding="utf-8").startswith("plot,votes,mean,tags,mixed,huge,late,genres,")


def test_compressed_output_holds_the_same_bytes_every_time(classifier: Classifier, films: Path, tmp_path: Path) -> None:
    for name in ("one.csv.gz", "two.csv.gz", "plain.csv"):
        tag_table(classifier, FilmTable(films), tmp_path / name)
    one, two = ((tmp_path / name).read_bytes() for name in ("one.csv.gz", "two.csv.gz"))
    assert one == two
    assert gzip.decompress(one) == (tmp_path / "plain.csv").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"films.csv", "one.csv.gz", "two.csv.gz", "plain.csv"}


def test_a_folder_of_tables_becomes_a_folder_of_the_same_files(classifier: Classifier, tmp_path: Path) -> None:
    films, out = tmp_path / "films", tmp_path / "out"
    for year, count, name in ((1999, CHUNK + 1, "a.csv"), (2000, 3, "b.parquet"), (2001, 2, "c.csv")):
        folder = films / f"year={year}"
        folder.mkdir(parents=True)
        frame = pl.DataFrame({"id": [str(n) for n in range(count)], "plot": ["A ghost"] * count})
        frame.write_csv(folder / name) if name.endswith("csv") else frame.write_parquet(folder / name)
    (films / "year=2002").mkdir()
    (films / "year=2002" / "none.csv").write_text("id,plot\n", encoding="utf-8")
    assert tag_table(classifier, FilmTable(films), out).films == CHUNK + 6
    tagged = {path.relative_to(out).as_posix() for path in out.rglob("*.*")}
    assert tagged == {"year=1999/a.csv", "year=2000/b.parquet", "year=2001/c.csv", "year=2002/none.csv"}
    assert pl.read_csv(out / "year=1999" / "a.csv").height == CHUNK + 1
    whole = pl.read_parquet(out / "year=2000" / "b.parquet")
    assert whole.columns == ["id", "plot", *ANSWER]  # the year stays in the folder's name
    assert is_finished(out, {}, films)
    with pytest.raises(UsageError, match="exists; give --overwrite to replace its files"):
        tag_table(classifier, FilmTable(films), out)
    (out / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"holds other files, such as mine\.txt; choose another --out"):
        tag_table(classifier, FilmTable(films), out, overwrite=True)
    (out / "mine.txt").unlink()
    tag_table(classifier, FilmTable(films), out, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"films", "out"}
    with pytest.raises(UsageError, match="names a folder, but there is one table; give a file"):
        tag_table(classifier, FilmTable(films / "year=2001" / "c.csv"), tmp_path / "alone")


@pytest.mark.parametrize("name", ["out.csv", "out"])
def test_an_earlier_output_is_not_tagged_again_as_a_table_of_films(
    classifier: Classifier, films: Path, tmp_path: Path, name: str
) -> None:
    shutil.copy(films, tmp_path / "more.csv")
    tag_table(classifier, FilmTable(tmp_path), tmp_path / name)
    with pytest.raises(UsageError, match=rf"{name} is itself read as a table of films; choose another --out"):
        tag_table(classifier, FilmTable(tmp_path), tmp_path / name, overwrite=True)


def test_an_output_that_exists_is_replaced_only_when_asked(classifier: Classifier, films: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="exists; give --overwrite"):
        tag_table(classifier, FilmTable(films), out)
    assert out.read_text(encoding="utf-8") == "mine"
    tag_table(classifier, FilmTable(films), out, overwrite=True)
    assert out.read_text(encoding="utf-8").startswith("id,plot")


class Stop(Exception):
    pass


def stop_after_first(summary: TagSummary) -> None:
    raise Stop


@pytest.fixture
def long_table(tmp_path: Path) -> Path:
    plots = ["Two detectives hunt a killer", "love in the city", "", "a ghost " * 20, "the band"]
    path = tmp_path / "long.csv"
    rows = "".join(f"{n % 900},{plots[n % 5]},{('', 'Drama', 'Music')[n % 3]}\n" for n in range(3 * CHUNK))
    path.write_text(f"id,plot,genres\n{rows}", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "only_missing"), [("out.jsonl", False), ("out.csv", True), ("out.parquet", False), ("out.csv.gz", False)]
)
def test_an_interrupted_run_resumes_to_the_same_bytes_lists_included(
    classifier: Classifier, long_table: Path, tmp_path: Path, name: str, only_missing: bool
) -> None:
    lists = {"review": ".tsv", "problems": ".jsonl.gz"} | ({} if only_missing else {"compare": ".csv"})

    def into(folder: str) -> tuple[Path, TagOptions]:
        (tmp_path / folder).mkdir()
        files = {what: tmp_path / folder / f"l{what}{end}" for what, end in lists.items()}
        return tmp_path / folder / name, TagOptions(only_missing, None, files)

    (whole, options), (broken, again) = into("whole"), into("broken")
    tag_table(classifier, FilmTable(long_table), whole, options=options)
    with pytest.raises(Stop):
        tag_table(classifier, FilmTable(long_table), broken, options=again, progress=stop_after_first)
    assert not broken.exists()
    assert len(list(partial_folder(broken).glob("part-*.gz"))) == 1
    with pytest.raises(UsageError, match=r"has an unfinished run; resume it with --resume"):
        tag_table(classifier, FilmTable(long_table), broken, options=again)
    summary = tag_table(classifier, FilmTable(long_table), broken, options=again, resume=True)
    assert summary.films == 3 * CHUNK
    for one, other in zip(sorted(whole.parent.iterdir()), sorted(broken.parent.iterdir()), strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


@pytest.mark.parametrize("damage", ["shortened", "changed", "removed"])
def test_films_of_a_damaged_part_are_tagged_again(
    classifier: Classifier, long_table: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole, broken = tmp_path / "whole.csv", tmp_path / "broken.csv"
    tag_table(classifier, FilmTable(long_table), whole)
    for _ in range(2):
        with pytest.raises(Stop):
            tag_table(classifier, FilmTable(long_table), broken, resume=True, progress=stop_after_first)
    first, second = sorted(partial_folder(broken).glob("part-*.gz"))
    data = bytearray(first.read_bytes())
    data[100] ^= 1
    if damage == "removed":
        first.unlink()
    else:
        first.write_bytes(data[:-1] if damage == "shortened" else data)
    tag_table(classifier, FilmTable(long_table), broken, resume=True)
    assert broken.read_bytes() == whole.read_bytes()
    assert (second if damage == "removed" else first).name in caplog.text


def test_a_run_of_other_films_or_another_model_is_not_resumed(
    classifier: Classifier, long_table: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(Stop):
        tag_table(classifier, FilmTable(long_table), out, progress=stop_after_first)
    other = Path(shutil.copytree(tiny_bundle, tmp_path / "other"))
    with (other / "manifest.json").open("a") as handle:
        handle.write(" ")
    with pytest.raises(UsageError, match="had a different model"):
        tag_table(load(other), FilmTable(long_table), out, resume=True)
    with pytest.raises(UsageError, match="had a different setting of --only-missing"):
        tag_table(classifier, FilmTable(long_table), out, resume=True, options=TagOptions(only_missing=True))
    with long_table.open("a") as handle:
        handle.write("new,film,1\n")
    with pytest.raises(UsageError, match="had a different table of films"):
        tag_table(classifier, FilmTable(long_table), out, resume=True)
    (partial_folder(out) / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match=r"run\.json is damaged; start again with --overwrite"):
        tag_table(classifier, FilmTable(long_table), out, resume=True)
    assert tag_table(classifier, FilmTable(long_table), out, overwrite=True).films == 3 * CHUNK + 1


def test_resume_starts_a_run_and_tells_a_finished_one(classifier: Classifier, films: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert tag_table(classifier, FilmTable(films), out, resume=True).films == 6
    assert is_finished(out, {}, films)
    assert not is_finished(out, {"review": tmp_path / "review.csv"}, films)
    old = tmp_path / "old.csv"
    old.write_text("id,plot\ng,A ghost\n", encoding="utf-8")
    os.utime(old, (1, 1))
    os.utime(out, (1, out.stat().st_mtime - 1))  # clocks of files may tick slowly
    old.replace(films)  # a file that is moved here keeps its time
    with pytest.raises(UsageError, match=r"films\.csv was changed, moved .* after .*out\.csv was written"):
        is_finished(out, {}, films)


def test_a_run_that_fails_before_its_first_part_leaves_nothing(
    classifier: Classifier, films: Path, tmp_path: Path
) -> None:
    def fail(_: list[Film]) -> list[Film]:
        raise Stop

    with pytest.raises(Stop):
        tag_table(classifier, FilmTable(films), tmp_path / "out.csv", options=TagOptions(complete=fail))
    assert {path.name for path in tmp_path.iterdir()} == {"films.csv"}


def test_a_second_process_that_writes_the_same_output_is_refused(
    films: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    out = tmp_path / "out.csv"
    command = [sys.executable, "-m", "mmgcs", "tag", str(films), "--out", str(out), "--model", str(tiny_bundle)]
    with lock_folder(partial_folder(out)):
        (partial_folder(out) / "run.json").write_text("{}", encoding="utf-8")
        for option in ("--resume", "--overwrite"):
            done = subprocess.run([*command, option], capture_output=True, text=True)
            assert done.returncode == 2
            assert done.stderr == f"mmgcs: error: another mmgcs is writing {out}; wait for it to end\n"
        assert (partial_folder(out) / "run.json").exists()
    assert subprocess.run([*command, "--overwrite"], capture_output=True).returncode == 3
    assert out.exists() and not partial_folder(out).exists()


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_nothing(long_table: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "mmgcs", "tag", str(long_table), "--model", str(tiny_bundle), "--out"]
    whole, killed = tmp_path / "whole.csv", tmp_path / "killed.csv"
    assert subprocess.run([*command, str(whole)], capture_output=True).returncode == 3
    for delay in (0.0, 0.1, 0.3):
        process = subprocess.Popen(
            [*command, str(killed), "--resume"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and not (partial_folder(killed) / "run.json").exists():
            time.sleep(0.001)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
    if not killed.exists():
        done = subprocess.run([*command, str(killed), "--resume"], capture_output=True)
        assert done.returncode == 3, done.stderr
    assert killed.read_bytes() == whole.read_bytes()


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_run_resumes_when_there_is_room(tmp_path: Path, tiny_bundle: Path) -> None:
    path = tmp_path / "films.csv"
    path.write_text("id,plot\n" + "".join(f"{n},love in the city\n" for n in range(3 * CHUNK)), encoding="utf-8")
    command = [sys.executable, "-m", "mmgcs", "tag", str(path), "--model", str(tiny_bundle), "--quiet", "--out"]
    assert subprocess.run([*command, str(tmp_path / "whole.csv")]).returncode == 0
    out = tmp_path / "out.csv"

    def limited(room: int) -> subprocess.CompletedProcess[str]:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

        return subprocess.run([*command, str(out), "--resume"], capture_output=True, text=True, preexec_fn=limit)

    for room in (100, 1000, 50_000):  # for nothing; for what the run is; for its part, but not for the output
        done = limited(room)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert f"cannot write {out} (File too large); free space, then resume with --resume" in done.stderr
        assert not out.exists()
    assert subprocess.run([*command, str(out), "--resume"]).returncode == 0
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not partial_folder(out).exists()


@pytest.mark.usefixtures("like_windows")
def test_nothing_of_a_run_is_left_where_open_files_cannot_be_removed(
    classifier: Classifier, films: Path, tmp_path: Path
) -> None:
    lists = {"review": tmp_path / "review.csv", "compare": tmp_path / "labels.csv"}
    tag_table(classifier, FilmTable(films), tmp_path / "out.csv", options=TagOptions(lists=lists))
    tag_table(classifier, FilmTable(films), tmp_path / "out.csv", options=TagOptions(lists=lists), overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"films.csv", "out.csv", "review.csv", "labels.csv"}
