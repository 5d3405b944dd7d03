"""The work of a cluster falls into parts that anyone can do at any time, with films and posters from anywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from http_server import picture

from mmgcs import load
from mmgcs.errors import UsageError
from mmgcs.runtime import Classifier
from mmgcs.tables import CHUNK, find_tables

pytest.importorskip("fsspec", reason='fsspec is not installed: pip install "mmgcs[scale]"')

import fsspec

from mmgcs.tagging.parts import ClusterRun, read_notes, read_parts, write_part
from mmgcs.tagging.storage import Folder

HEADER = "id,plot,poster\n"
TYPES = dict.fromkeys(("id", "plot", "poster"), "text")


@pytest.fixture
def classifier(tiny_bundle: Path) -> Classifier:
    return load(tiny_bundle)


def make_run(films: str, out: str, **options: object) -> ClusterRun:
    return ClusterRun(tuple(find_tables(films)), out, None, TYPES, part_films=CHUNK, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("films", "parts"), [(0, 1), (1, 1), (CHUNK, 1), (CHUNK + 1, 2), (2 * CHUNK, 2)])
def test_a_shard_ends_with_its_last_part_whatever_is_done_already(films: int, parts: int, tmp_path: Path) -> None:
    path = tmp_path / "films.csv"
    path.write_text(HEADER + "".join(f"{n},A ghost,\n" for n in range(films)), encoding="utf-8")
    run = make_run(str(path), str(tmp_path / "out"))
    whole = list(read_parts(run, 0))
    assert [part.number for part in whole] == list(range(parts))
    assert [part.last for part in whole] == [False] * (parts - 1) + [True]
    for done in range(parts):
        again = list(read_parts(make_run(str(path), run.out, done={0: frozenset({done})}), 0))
        assert again == [part for part in whole if part.number != done]


def test_a_part_that_was_written_is_not_written_again(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "films.csv").write_text(HEADER + "a,A ghost,\nb,,\n", encoding="utf-8")
    run = make_run(str(tmp_path / "films.csv"), str(tmp_path / "out"))
    (part,) = read_parts(run, 0)
    note = write_part(run, part, classifier)
    assert note["summary"]["films"] == 2
    assert sum(note["summary"]["errors"].values()) == 1
    assert note["core_seconds"] > 0
    changed = (tmp_path / "out" / note["file"]).stat().st_mtime_ns
    assert write_part(run, part, classifier) == note
    assert (tmp_path / "out" / note["file"]).stat().st_mtime_ns == changed
    assert read_notes(Folder(run.out)) == [note]


def test_films_posters_and_results_may_lie_in_an_object_store(classifier: Classifier, tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    store.pipe_file("/films/tables/a.csv", (HEADER + "a,,p/1.jpg\nb,,none.jpg\nc,A ghost,none.jpg\n").encode())
    store.pipe_file("/films/tables/b.csv", (HEADER + "d,,../../secret.jpg\n").encode())
    store.pipe_file("/films/tables/notes.txt", b"no table")
    store.pipe_file("/films/posters/p/1.jpg", picture())
    try:
        shards = find_tables("memory://films/tables")
        run = ClusterRun(tuple(shards), "memory://films/out", "memory://films/posters", TYPES)
        notes = [write_part(run, part, classifier) for n in range(len(shards)) for part in read_parts(run, n)]
        frames = [pl.read_parquet(store.cat_file(f"/films/out/{note['file']}")) for note in notes]
    finally:
        store.rm("/films", recursive=True)
    rows = {row["id"]: row for row in pl.concat(frames).iter_rows(named=True)}
    assert rows["a"]["inputs"] == ["poster"]
    assert rows["b"]["error"] == "the poster memory://films/posters/none.jpg does not exist; check the path"
    assert rows["c"]["inputs"] == ["plot"]
    assert "none.jpg does not exist" in rows["c"]["warnings"][0]
    assert "leads out of the posters folder" in rows["d"]["error"]


def test_posters_in_the_table_itself_travel_with_their_films(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "films.parquet"
    pl.DataFrame({"id": ["a", "b"], "poster": [picture(), None], "year": [1999, None]}).write_parquet(path)
    types = dict(pl.read_parquet_schema(path)) | {"id": "text"}
    run = ClusterRun(tuple(find_tables(str(path))), str(tmp_path / "out"), None, types)
    (part,) = read_parts(run, 0)
    write_part(run, part, classifier)
    frame = pl.read_parquet(tmp_path / "out" / part.name)
    assert frame["inputs"].to_list() == [["poster"], []]
    assert frame["year"].to_list() == [1999, None]
    assert frame["poster"].to_list() == [picture(), None]
    assert frame.schema["year"] == pl.Int64()


def test_a_shard_with_other_columns_is_named(tmp_path: Path) -> None:
    (tmp_path / "films.csv").write_text("id,plot,rating\na,A ghost,7\n", encoding="utf-8")
    run = make_run(str(tmp_path / "films.csv"), str(tmp_path / "out"))
    with pytest.raises(UsageError, match=r"films\.csv has the column 'rating', which the first table does not have"):
        list(read_parts(run, 0))
    pl.DataFrame({"id": [1], "plot": ["a"], "poster": [None]}).write_parquet(tmp_path / "numbers.parquet")
    run = make_run(str(tmp_path / "numbers.parquet"), str(tmp_path / "out"))
    assert len(list(read_parts(run, 0))) == 1  # text takes every value
    with pytest.raises(UsageError, match=r"films\.csv has another type in the column 'id' than the first table"):
        (tmp_path / "films.csv").write_text(HEADER, encoding="utf-8")
        list(read_parts(replace(make_run(str(tmp_path / "films.csv"), run.out), types=TYPES | {"id": pl.Int64()}), 0))


def test_an_address_of_an_unknown_kind_is_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match=r"teapot://x cannot be reached \(Protocol not known"):
        Folder("teapot://x")


def test_notes_are_read_in_the_order_of_their_parts(tmp_path: Path) -> None:
    out = Folder(str(tmp_path))
    for name in ("part-00001-00000", "part-00000-00001", "part-00000-00000"):
        out.write(f"_parts/{name}.parquet.json", json.dumps({"file": name}).encode())
    assert [note["file"] for note in read_notes(out)] == ["part-00000-00000", "part-00000-00001", "part-00001-00000"]
