"""`mmgcs evaluate` as a person calls it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mmgcs.bundle import CARD_JSON, CONFIG, Bundle, write_bundle
from mmgcs.cli import main

Call = Callable[..., tuple[int, str, str]]
ROWS = """id,title,plot,genres,split
1,One,A ghost in a haunted village,Horror,train
2,Two,Two detectives hunt a gangster,Crime|Thriller,train
3,Three,A haunted monster and a ghost,Horror,valid
4,Four,A detective and a heist,Crime,valid
5,Five,A vampire ghost,Horror,test
6,Six,Murder and robbery,Crime,test
7,Seven,Nobody knows,,test
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "films.csv"
    path.write_text(ROWS, encoding="utf-8")
    return path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def call(*words: str | Path | int) -> tuple[int, str, str]:
        status = main(["evaluate", "--bootstrap", "20", *map(str, words)])
        return status, *capsys.readouterr()

    return call


def test_the_table_goes_to_stdout(call: Call, tiny_bundle: Path, table: Path) -> None:
    status, out, err = call("--model", tiny_bundle, "--data", table)
    assert (status, err) == (0, "")
    for text in ("tiny on test", "2 films scored of 3 (1 without genres and 0 unreadable left out;"):
        assert text in out
    for name in ("all films", "plot only, no title", "TF-IDF baseline", "micro-F1", "Thriller"):
        assert name in out


def test_json_is_one_value_and_names_its_data(call: Call, tiny_bundle: Path, table: Path) -> None:
    value = json.loads(call("--model", tiny_bundle, "--data", table, "--json")[1])
    assert value["counts"]["scored"] == 2
    assert value["data"] == {"data": "films.csv", "data SHA-256": hashlib.sha256(table.read_bytes()).hexdigest()}
    assert value["conditions"][0]["baseline"]["scores"]["films"] == 2


def test_label_sources_of_the_bundles_own_recipe_count(
    call: Call, tiny_bundle: Path, table: Path, tmp_path: Path
) -> None:
    rows = ROWS.replace("A vampire ghost", "A detective").replace("\n", ",archive\n")
    table.write_text(rows.replace("split,archive", "split,labels"), encoding="utf-8")
    options = ("--data", table, "--no-baseline", "--json")
    _, plain, err = call("--model", tiny_bundle, *options)
    assert "label source 'archive' has no description" in err
    bundle, old = tmp_path / "described", Bundle(tiny_bundle)
    card = {"recipe": {"label_sources": {"archive": {"unnamed": ["Crime"]}}}}

    def fill(folder: Path) -> None:
        old.copy_to(folder, without=(CARD_JSON, CONFIG))
        (folder / CARD_JSON).write_text(json.dumps(card), encoding="utf-8")

    write_bundle(bundle, old.config, fill)
    _, described, err = call("--model", bundle, *options)
    assert err == ""
    before, after = (json.loads(out)["conditions"][0]["tuned"]["micro_f1"]["value"] for out in (plain, described))
    assert after > before  # the film is not known to be no crime film


def test_a_report_is_written_where_asked(call: Call, tiny_bundle: Path, table: Path, tmp_path: Path) -> None:
    _, out, err = call("--model", tiny_bundle, "--data", table, "--report", tmp_path / "out", "--no-baseline", "--json")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "report.json", "report.md"]
    assert "report.html" in err
    assert json.loads(out) == json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert json.loads(out)["baseline_note"].startswith("no baseline")


def test_an_earlier_report_is_only_replaced_when_asked(
    call: Call, tiny_bundle: Path, table: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    mine = tmp_path / "out" / "report.md"
    mine.write_text("mine", encoding="utf-8")
    words = ("--model", tiny_bundle, "--data", table, "--report", tmp_path / "out", "--no-baseline")
    status, _, err = call(*words)
    assert (status, mine.read_text(encoding="utf-8")) == (2, "mine")
    assert "report.md exists; give --overwrite to replace it, or another --report" in err
    assert call(*words, "--overwrite")[0] == 0
    assert mine.read_text(encoding="utf-8") != "mine"


@pytest.mark.parametrize(("split", "films"), [("valid", 2), ("train", 2), ("all", 6)])
def test_other_splits_can_be_scored_and_no_baseline_sees_what_it_is_scored_on(
    call: Call, tiny_bundle: Path, table: Path, split: str, films: int
) -> None:
    value = json.loads(call("--model", tiny_bundle, "--data", table, "--split", split, "--json")[1])
    assert value["counts"]["scored"] == films
    assert (value["conditions"][0]["baseline"] is None) == (split in ("train", "all"))
    assert split != "valid" or "thresholds of 0.5" in value["baseline_note"]


def test_a_split_that_is_not_there_is_refused_with_those_that_are(call: Call, tiny_bundle: Path, table: Path) -> None:
    status, out, err = call("--model", tiny_bundle, "--data", table, "--split", "dev")
    assert (status, out) == (2, "")
    assert "no films of the split 'dev'; it has test (3), train (2), valid (2)" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("split", ["test", "all"])
def test_a_table_without_a_column_of_genres_is_refused_with_its_columns(
    call: Call, tiny_bundle: Path, table: Path, split: str
) -> None:
    table.write_text("id,plot,category\n1,a ghost,Horror\n", encoding="utf-8")
    status, _, err = call("--model", tiny_bundle, "--data", table, "--split", split)
    assert status == 2
    assert "films.csv has no column genres, genre or listed_in; its columns are id, plot, category" in err
