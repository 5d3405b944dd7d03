"""Options of a run: which films to tag, how sure to be, and which lists to write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmgcs.errors import UsageError
from mmgcs.runtime import Classifier
from mmgcs.tables import CHUNK, FilmTable
from mmgcs.tagging import TagOptions, TagSummary, tag_table

TABLE = """id,title,plot,genres,poster
a,A,Two detectives hunt a killer,Crime,
b,B,love in the old city,Horror|Romance,
c,C,the city of the man,,
d,D,,Drama,
e,E,a ghost haunts the house,Western,none.jpg
a,A2,a ghost and a vampire,Comedy,
"""


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def films(tmp_path: Path) -> Path:
    path = tmp_path / "films.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def tagged(classifier: Classifier, films: Path, options: TagOptions) -> tuple[list[dict[str, Any]], TagSummary]:
    out = films.with_name("out.jsonl")
    summary = tag_table(classifier, FilmTable(films), out, options=options, overwrite=True)
    return lines(out), summary


def test_only_missing_predicts_only_films_without_genres(classifier: Classifier, films: Path) -> None:
    rows, summary = tagged(classifier, films, TagOptions(only_missing=True))
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
    some, _ = tagged(classifier, path, TagOptions(only_missing=True))
    alone, _ = tagged(classifier, short, TagOptions())
    assert [row for row in some if row["inputs"]] == alone


def test_only_missing_needs_a_column_of_genres(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "films.csv"
    path.write_text("id,plot\na,love\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"--only-missing needs a column of genres; .*films\.csv has id, plot"):
        tag_table(classifier, FilmTable(path), tmp_path / "o.csv", options=TagOptions(only_missing=True))


def test_a_least_confidence_leaves_films_under_it_without_genres(classifier: Classifier, films: Path) -> None:
    free, _ = tagged(classifier, films, TagOptions())
    review = films.with_name("review.jsonl")
    strict, summary = tagged(classifier, films, TagOptions(min_confidence=0.999, lists={"review": review}))
    assert lines(review)[0]["reasons"][0].endswith("is below 1.00")
    assert [row["probabilities"] for row in strict] == [row["probabilities"] for row in free]
    assert all(row["genres"] == [] and not row["sure"] for row in strict)
    assert any(row["genres"] for row in free)
    assert summary.unsure == 5


def test_the_review_holds_what_it_was_unsure_of_and_why(classifier: Classifier, films: Path, tmp_path: Path) -> None:
    review = tmp_path / "review.jsonl"
    tags, summary = tagged(classifier, films, TagOptions(lists={"review": review}))
    rows = {row["place"]: row for row in lines(review)}
    assert list(rows) == [f"line {number}" for number, tag in enumerate(tags, 2) if not tag["sure"]]
    assert "line 2" not in rows
    assert rows["line 4"]["reasons"][0] == "no genre is likely enough"
    assert len(rows["line 4"]["genres"]) == 1  # its best guess
    assert "nothing to predict from" in rows["line 5"]["reasons"][0]
    assert rows["line 5"]["confidence"] is None
    assert summary.found == {"review": len(rows)}


def test_disagreements_are_ranked_the_worst_label_first(classifier: Classifier, films: Path, tmp_path: Path) -> None:
    compare = tmp_path / "compare.jsonl"
    tagged(classifier, films, TagOptions(lists={"compare": compare}))
    rows = lines(compare)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert [row["score"] for row in rows] == sorted(row["score"] for row in rows)
    by_place = {row["place"]: row for row in rows}
    assert set(by_place) == {"line 2", "line 3", "line 6", "line 7"}
    assert [text.split()[0] for text in by_place["line 3"]["remove"]] == ["Horror"]
    assert [text.split()[0] for text in by_place["line 7"]["add"]] == ["Horror"]
    assert by_place["line 6"]["remove"] == []  # the model does not know Western and cannot call it wrong


def test_every_problem_is_listed_once_with_its_place(classifier: Classifier, films: Path, tmp_path: Path) -> None:
    problems = tmp_path / "problems.csv"
    tagged(classifier, films, TagOptions(lists={"problems": problems}))
    header, *rows = problems.read_text(encoding="utf-8").splitlines()
    assert header == "place,id,kind,problem"
    assert [row.split(",")[:3] for row in rows] == [
        ["line 5", "d", "error"],
        ["line 6", "e", "warning"],
        ["line 7", "a", "warning"],
    ]
    assert "none.jpg does not exist" in rows[1]
    assert "occurs earlier" in rows[2]


def test_outputs_that_would_write_over_each_other_are_refused(
    classifier: Classifier, films: Path, tmp_path: Path
) -> None:
    same = tmp_path / "out.csv"
    with pytest.raises(UsageError, match="--out and --review are both"):
        tag_table(classifier, FilmTable(films), same, options=TagOptions(lists={"review": same}))
    with pytest.raises(UsageError, match=r"no output format '\.xlsx'; known: \.csv"):
        tag_table(classifier, FilmTable(films), same, options=TagOptions(lists={"review": tmp_path / "r.xlsx"}))
    (tmp_path / "r.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"r\.csv exists; give --overwrite .* another --review"):
        tag_table(classifier, FilmTable(films), same, options=TagOptions(lists={"review": tmp_path / "r.csv"}))
