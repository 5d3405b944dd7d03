"""`mmgcs.tag` takes and returns frames of every kind, and runs over files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import mmgcs
from mmgcs.errors import UsageError
from mmgcs.tables import ANSWER_COLUMNS

FILMS: dict[str, list[Any]] = {
    "key": [7, 8, 9],
    "synopsis": ["A ghost", None, "love"],
    "genres": [["Drama"], [], None],
    "error": ["old", None, None],
}
COLUMNS = {"plot": "synopsis", "id": "key"}
KEPT = ["key", "synopsis", "given_genres", "given_error"]


def make(kind: str) -> Any:
    if kind == "polars":
        return pl.DataFrame(FILMS)
    if kind == "pandas":
        return pytest.importorskip("pandas").DataFrame(FILMS, index=["x", "y", "z"]).convert_dtypes()
    return pytest.importorskip("pyarrow").table(FILMS)


@pytest.mark.parametrize("kind", ["polars", "pandas", "arrow"])
def test_a_frame_comes_back_as_one_of_its_kind_with_the_answers_appended(kind: str, tiny_bundle: Path) -> None:
    frame = make(kind)
    tagged = mmgcs.tag(frame, model=tiny_bundle, columns=COLUMNS)
    assert type(tagged) is type(frame)
    names = tagged.column_names if kind == "arrow" else list(tagged.columns)
    assert names == [*KEPT, *ANSWER_COLUMNS]
    rows = {"polars": lambda: tagged.to_dicts(), "pandas": lambda: tagged.to_dict("records")}.get(
        kind, lambda: tagged.to_pylist()
    )()
    assert [list(row["genres"]) for row in rows] == [["Horror"], [], ["Romance"]]
    assert [row["key"] for row in rows] == FILMS["key"]
    assert rows[0]["given_error"] == "old"
    assert "nothing to predict from" in rows[1]["error"]
    assert list(rows[1]["warnings"]) == []
    assert rows[0]["probabilities"]["Horror"] > 0.5
    if kind == "pandas":
        assert list(tagged.index) == ["x", "y", "z"]
        assert list(frame.columns) == list(FILMS)


def test_only_missing_and_a_confidence_apply_to_frames_too(tiny_bundle: Path) -> None:
    frame, columns = make("polars"), {"plot": "synopsis"}
    assert mmgcs.tag(frame, model=tiny_bundle, columns=columns, only_missing=True)["genres"].to_list() == [
        ["Drama"],
        [],
        ["Romance"],
    ]
    sure = mmgcs.tag(frame, model=tiny_bundle, columns=columns, min_confidence=0.999)
    assert sure["genres"].to_list() == [[], [], []]


def test_a_file_is_tagged_into_another_and_a_finished_one_is_left(tiny_bundle: Path, tmp_path: Path) -> None:
    pl.DataFrame({"id": [1], "plot": ["A ghost"]}).write_csv(tmp_path / "films.csv")
    seen: list[int] = []
    options: dict[str, Any] = {"model": mmgcs.load(tiny_bundle), "progress": lambda summary: seen.append(summary.films)}
    assert mmgcs.tag(tmp_path / "films.csv", tmp_path / "out.parquet", **options).genres == {"Horror": 1}
    assert seen == [1]
    assert mmgcs.tag(tmp_path / "films.csv", tmp_path / "out.parquet", resume=True, **options).films == 0
    with pytest.raises(UsageError, match="exists; give --overwrite"):
        mmgcs.tag(str(tmp_path / "films.csv"), str(tmp_path / "out.parquet"), **options)


@pytest.mark.parametrize(
    ("films", "out", "message"),
    [
        (pl.DataFrame({"a": [1]}), None, "the frame has no column for the plot .* or the poster; .* its columns are a"),
        (pl.DataFrame({"plot": ["a"]}), None, "the frame has no column 'synopsis'; its columns are plot"),
        ([1], None, "cannot tag a list; give a path, or a frame"),
        ("films.csv", None, "out is missing; give the file to write"),
        (pl.DataFrame({"plot": ["a"]}), "x.csv", "out is for a file of films"),
    ],
)
def test_what_cannot_be_tagged_is_refused(films: Any, out: str | None, message: str, tiny_bundle: Path) -> None:
    columns = {"plot": "synopsis"} if "synopsis" in message else None
    with pytest.raises(UsageError, match=message):
        mmgcs.tag(films, out, model=tiny_bundle, columns=columns)


def test_two_columns_of_one_name_are_refused(tiny_bundle: Path) -> None:
    frame = pytest.importorskip("pandas").DataFrame([["a ghost", "love"]], columns=["plot", "plot"])
    with pytest.raises(UsageError, match="two columns of the same name"):
        mmgcs.tag(frame, model=tiny_bundle)
