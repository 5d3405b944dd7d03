"""Beyond tagging: which films to tag, how sure to be, what to look at afterwards, and who may write."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmgcs import load
from mmgcs.errors import UsageError
from mmgcs.runtime import Classifier
from mmgcs.runtime.batch import Summary
from mmgcs.tables import CHUNK, FilmTable
from mmgcs.tagging.findings import label_quality
from mmgcs.tagging.journal import Journal
from mmgcs.tagging.pipeline import Wishes, partial_folder, tag_table

TABLE = """id,title,plot,genres,poster
a,A,Two detectives hunt a killer,Crime,
b,B,love in the city,Horror|Romance,
c,C,the city of the man,,
d,D,,Drama,
e,E,a ghost,Western,none.jpg
a,A2,a ghost and a vampire,Comedy,
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


def tagged(classifier: Classifier, films: Path, wishes: Wishes) -> tuple[list[dict[str, Any]], Summary]:
    out = films.with_name("out.jsonl")
    summary = tag_table(classifier, FilmTable(films), out, wishes=wishes, overwrite=True)
    return lines(out), summary


def test_only_missing_predicts_only_films_without_genres(classifier: Classifier, films: Path) -> None:
    rows, summary = tagged(classifier, films, Wishes(only_missing=True))
    assert [row["inputs"] for row in rows] == [[], [], ["plot"], [], [], []]
    assert [row["genres"] for row in rows][1] == ["Horror", "Romance"]
    assert rows[0]["confidence"] is None and rows[0]["sure"] is None and rows[0]["error"] is None
    assert (summary.films, summary.kept, summary.in_error) == (6, 5, 0)


def test_films_that_are_left_out_change_nothing_for_the_others(classifier: Classifier, tmp_path: Path) -> None:
    path, short = tmp_path / "films.csv", tmp_path / "short.csv"
    plots = ["love in the city", "a ghost " * 9, "the band"]
    rows = [f"{n},{plots[n % 3]},{'Drama' if n % 7 else ''}\n" for n in range(6 * CHUNK)]
    path.write_text("id,plot,genres\n" + "".join(rows), encoding="utf-8")
    short.write_text("id,plot,genres\n" + "".join(row for row in rows if row.endswith(",\n")), encoding="utf-8")
    some, _ = tagged(classifier, path, Wishes(only_missing=True))
    alone, _ = tagged(classifier, short, Wishes())
    assert [row for row in some if row["inputs"]] == alone


def test_a_least_confidence_leaves_films_under_it_without_genres(classifier: Classifier, films: Path) -> None:
    free, _ = tagged(classifier, films, Wishes())
    strict, summary = tagged(classifier, films, Wishes(min_confidence=0.999))
    assert [row["probabilities"] for row in strict] == [row["probabilities"] for row in free]
    assert all(row["genres"] == [] and not row["sure"] for row in strict)
    assert any(row["genres"] for row in free)
    assert summary.unsure == 5


def test_the_review_holds_what_it_was_unsure_of_and_why(classifier: Classifier, films: Path, tmp_path: Path) -> None:
    review = tmp_path / "review.jsonl"
    tags, summary = tagged(classifier, films, Wishes(lists={"review": review}))
    rows = {row["place"]: row for row in lines(review)}
    assert list(rows) == [f"line {number}" for number, tag in enumerate(tags, 2) if not tag["sure"]]
    assert "line 2" not in rows
    assert rows["line 4"]["reasons"][0] == "no genre is likely enough"
    assert len(rows["line 4"]["genres"]) == 1  # its best guess
    assert "nothing to predict from" in rows["line 5"]["reasons"][0]
    assert rows["line 5"]["confidence"] is None
    assert summary.found == {"review": len(rows)}


def test_the_review_says_the_confidence_that_was_asked_for(classifier: Classifier, films: Path, tmp_path: Path) -> None:
    review = tmp_path / "review.jsonl"
    tagged(classifier, films, Wishes(min_confidence=0.999, lists={"review": review}))
    first = lines(review)[0]
    assert first["genres"] == ["Crime", "Thriller"]
    assert first["reasons"][0].endswith("is under 1.00")


def test_disagreements_are_ranked_the_worst_label_first(classifier: Classifier, films: Path, tmp_path: Path) -> None:
    compare = tmp_path / "compare.jsonl"
    tagged(classifier, films, Wishes(lists={"compare": compare}))
    rows = lines(compare)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert [row["score"] for row in rows] == sorted(row["score"] for row in rows)
    by_place = {row["place"]: row for row in rows}
    assert set(by_place) == {"line 2", "line 3", "line 6", "line 7"}
    assert [text.split()[0] for text in by_place["line 3"]["remove"]] == ["Horror"]
    assert [text.split()[0] for text in by_place["line 7"]["add"]] == ["Horror"]
    assert by_place["line 6"]["remove"] == []  # the model does not know Western and cannot call it wrong


def test_a_wrong_label_costs_more_quality_than_an_unlikely_one() -> None:
    chances = {"Drama": 0.9, "Horror": 0.05, "Comedy": 0.4}
    right, unlikely, wrong = (label_quality(given, chances) for given in (["Drama"], ["Drama", "Comedy"], ["Horror"]))
    assert wrong < unlikely < right


def test_every_problem_is_listed_once_with_its_place(classifier: Classifier, films: Path, tmp_path: Path) -> None:
    problems = tmp_path / "problems.csv"
    tagged(classifier, films, Wishes(lists={"problems": problems}))
    header, *rows = problems.read_text(encoding="utf-8").splitlines()
    assert header == "place,id,kind,problem"
    assert [row.split(",")[:3] for row in rows] == [
        ["line 5", "d", "error"],
        ["line 6", "e", "warning"],
        ["line 7", "a", "warning"],
    ]
    assert "none.jpg does not exist" in rows[1]
    assert "occurs earlier" in rows[2]


class Stop(Exception):
    pass


def stop_after_first(done: int, summary: Summary) -> None:
    raise Stop


@pytest.mark.parametrize("only_missing", [False, True])
def test_lists_of_a_run_that_was_cut_off_are_the_same_bytes(
    classifier: Classifier, tmp_path: Path, only_missing: bool
) -> None:
    path = tmp_path / "films.csv"
    plots = ["love in the city", "a ghost " * 9, "the band", ""]
    rows = [f"{n % 1500},{plots[n % 4]},{('', 'Drama', 'Music')[n % 3]}\n" for n in range(4 * CHUNK)]
    path.write_text("id,plot,genres\n" + "".join(rows), encoding="utf-8")
    names = {"review": ".tsv", "problems": ".jsonl.gz"} | ({} if only_missing else {"compare": ".csv"})

    def into(name: str) -> tuple[Path, Wishes]:
        folder = tmp_path / name
        folder.mkdir()
        return folder / "out.csv", Wishes(
            only_missing, None, {what: folder / f"l{what}{end}" for what, end in names.items()}
        )

    whole, broken = into("whole"), into("broken")
    tag_table(classifier, FilmTable(path), whole[0], wishes=whole[1])
    with pytest.raises(Stop):
        tag_table(classifier, FilmTable(path), broken[0], wishes=broken[1], progress=stop_after_first)
    with pytest.raises(UsageError, match="had another set of"):
        tag_table(classifier, FilmTable(path), broken[0], resume=True)
    tag_table(classifier, FilmTable(path), broken[0], wishes=broken[1], resume=True)
    for one, other in zip(sorted(whole[0].parent.iterdir()), sorted(broken[0].parent.iterdir()), strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_outputs_that_would_write_over_each_other_are_refused(
    classifier: Classifier, films: Path, tmp_path: Path
) -> None:
    same = tmp_path / "out.csv"
    with pytest.raises(UsageError, match="--out and --review are both"):
        tag_table(classifier, FilmTable(films), same, wishes=Wishes(lists={"review": same}))
    with pytest.raises(UsageError, match=r"no list format '\.parquet'; known: \.csv"):
        tag_table(classifier, FilmTable(films), same, wishes=Wishes(lists={"review": tmp_path / "r.parquet"}))
    (tmp_path / "r.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"r\.csv exists; give --overwrite .* another --review"):
        tag_table(classifier, FilmTable(films), same, wishes=Wishes(lists={"review": tmp_path / "r.csv"}))


def test_a_second_process_that_writes_the_same_output_is_refused(
    classifier: Classifier, films: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    out = tmp_path / "out.csv"
    command = [sys.executable, "-m", "mmgcs", "tag", str(films), "--out", str(out), "--model", str(tiny_bundle)]
    with Journal.open(partial_folder(out), {"films": "x"}, ["records.jsonl"]):
        for option in ("--resume", "--overwrite"):
            done = subprocess.run([*command, option], capture_output=True, text=True)
            assert done.returncode == 2
            assert done.stderr == f"mmgcs: error: another mmgcs is writing {out}; wait for it to end\n"
        assert (partial_folder(out) / "records.jsonl").exists()
    assert subprocess.run([*command, "--overwrite"], capture_output=True).returncode == 3
    assert out.exists() and not partial_folder(out).exists()


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(tmp_path: Path, tiny_bundle: Path) -> None:
    path = tmp_path / "films.csv"
    path.write_text("id,plot\n" + "".join(f"{n},love in the city\n" for n in range(3 * CHUNK)), encoding="utf-8")
    command = [sys.executable, "-m", "mmgcs", "tag", str(path), "--model", str(tiny_bundle), "--quiet", "--out"]
    assert subprocess.run([*command, str(tmp_path / "whole.csv")]).returncode == 0
    out = tmp_path / "out.csv"

    def full(room: int) -> subprocess.CompletedProcess[str]:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

        return subprocess.run([*command, str(out), "--resume"], capture_output=True, text=True, preexec_fn=limit)

    records = 3 * CHUNK * 400
    for room in (1000, records):  # for nothing; for some of it
        done = full(room)
        if done.returncode == 0:
            break
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "cannot be written (File too large); mend that and go on with --resume" in done.stderr
        assert not out.exists()
    else:
        assert subprocess.run([*command, str(out), "--resume"]).returncode == 0
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not partial_folder(out).exists()


@pytest.mark.usefixtures("like_windows")
def test_nothing_of_a_run_is_left_where_no_open_file_can_be_removed(
    classifier: Classifier, films: Path, tmp_path: Path
) -> None:
    lists = {"review": tmp_path / "review.csv", "compare": tmp_path / "labels.csv"}
    tag_table(classifier, FilmTable(films), tmp_path / "out.csv", wishes=Wishes(lists=lists))
    tag_table(classifier, FilmTable(films), tmp_path / "out.csv", wishes=Wishes(lists=lists), overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"films.csv", "out.csv", "review.csv", "labels.csv"}


def test_what_is_left_of_a_run_that_fails_before_its_first_commit_is_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "out.csv.partial"
    with pytest.raises(ValueError, match="no films"), Journal.open(folder, {}, ["records.jsonl"]) as journal:
        journal.write("records.jsonl", b"half")
        raise ValueError("no films")
    assert not folder.exists()


def test_of_runs_that_begin_while_others_end_each_is_refused_or_has_the_folder_to_itself(tmp_path: Path) -> None:
    folder = tmp_path / "out.csv.partial"

    def run(thread: int) -> int:
        done = 0
        for _ in range(100):
            try:
                with Journal.open(folder, {"thread": thread}, ["records.jsonl"]) as journal:
                    journal.write("records.jsonl", str(thread).encode())
                    journal.commit({})
                    assert (folder / "records.jsonl").read_text(encoding="utf-8") == str(thread)
                    journal.finish()
                    done += 1
            except UsageError as error:
                assert "another mmgcs is writing" in str(error)
        return done

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(run, range(4))) > 0
    assert not folder.exists()


def test_posters_are_read_while_plots_are_missing(classifier: Classifier, tmp_path: Path) -> None:
    Image.fromarray(np.full((48, 32, 3), 120, dtype=np.uint8)).save(tmp_path / "p.png")
    (tmp_path / "films.csv").write_text("id,plot,poster\na,,p.png\nb,love,p.png\n", encoding="utf-8")
    rows, _ = tagged(classifier, tmp_path / "films.csv", Wishes())
    assert [row["inputs"] for row in rows] == [["poster"], ["plot", "poster"]]
