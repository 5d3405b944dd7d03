"""Tables and posters in an object store: a real S3 server on this machine."""

from __future__ import annotations

import datetime
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from http_server import picture
from ports import free_port, wait_for

from mmgcs.errors import UsageError
from mmgcs.runtime import Classifier
from mmgcs.tables import FilmTable, Folder, read_films
from mmgcs.tagging import tag_table

pytest.importorskip("s3fs", reason="s3fs is not installed")
pytest.importorskip("moto", reason="moto is not installed")

import fsspec


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """A bucket `films`; what this process and its children read from s3:// comes from there."""
    port = free_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(port, server)
            files = fsspec.filesystem("s3", skip_instance_cache=True)
            files.mkdir("films")
            yield files
        finally:
            server.kill()


def test_tables_and_posters_of_a_bucket_are_tagged(
    store: fsspec.AbstractFileSystem, tiny_bundle: Path, tmp_path: Path
) -> None:
    store.pipe_file("films/tables/a.csv", b"id,plot,poster\n1,,p.jpg\n2,,none.jpg\n3,a ghost,none.jpg\n4,,../x.jpg\n")
    store.pipe_file("films/tables/year=2000/b.csv", b"id,plot,poster\n5,a ghost,\n")
    store.pipe_file("films/tables/notes.txt", b"no table")
    store.pipe_file("films/posters/p.jpg", picture())
    out = tmp_path / "out.jsonl"
    call = ["tag", "s3://films/tables", "--posters", "s3://films/posters", "--out", str(out), "--resume"]
    command = [sys.executable, "-m", "mmgcs", *call, "--model", os.fspath(tiny_bundle)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    rows = {row["id"]: row for row in map(json.loads, out.read_text(encoding="utf-8").splitlines())}
    assert list(rows) == ["1", "2", "3", "4", "5"]
    assert rows["1"]["inputs"] == ["poster"]
    assert rows["2"]["error"] == "the poster s3://films/posters/none.jpg does not exist; check the path"
    assert rows["3"]["inputs"] == ["plot"] and "none.jpg does not exist" in rows["3"]["warnings"][0]
    assert "is outside the posters folder" in rows["4"]["error"]
    assert rows["5"]["year"] == "2000"
    again = subprocess.run(command, capture_output=True, text=True)
    assert (again.returncode, again.stderr.count("is finished already")) == (0, 1)
    time.sleep(1.1)  # the store tells whole seconds
    store.pipe_file("films/tables/c.csv", b"id,plot,poster\n6,a ghost,\n")
    newer = subprocess.run(command, capture_output=True, text=True)
    assert (newer.returncode, newer.stderr.count("s3://films/tables was changed")) == (2, 1)


def test_results_are_written_to_a_bucket_whole(store: fsspec.AbstractFileSystem) -> None:
    folder = Folder("s3://films/out")
    assert folder.names() == []
    folder.write("part", b"data")
    assert (folder.names(), folder.read("part")) == (["part"], b"data")
    folder.remove()
    assert folder.names() == []


def test_addresses_of_every_kind_are_read(classifier: Classifier, tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    for number in range(3):
        files.pipe_file(f"/films/part-{number}.csv", f"id,plot\n{number},p\n".encode())
    for address in ("memory://films", "memory://films/part-*.csv", Path("memory://films")):
        table = FilmTable(address)
        assert [film.id for chunk in table.chunks() for film in chunk] == ["0", "1", "2"]
        assert not isinstance(table.posters, Path)
    dated = io.BytesIO()
    pl.DataFrame({"plot": ["a ghost"], "made": [datetime.date(1999, 3, 31)]}).write_parquet(dated)
    for name in "ab":
        files.pipe_file(f"/dated/{name}.parquet", dated.getvalue())
    tag_table(classifier, FilmTable("memory://dated"), tmp_path / "out.parquet")
    assert pl.read_parquet(tmp_path / "out.parquet")["made"].to_list() == [datetime.date(1999, 3, 31)] * 2
    for address, message in (
        ("memory://none", "there is no table of films at memory://none"),
        ("teapot://x/y.csv", "teapot://x/y.csv cannot be reached: teapot:// is not supported here"),
        ("gs://bucket/films.csv", r"pip install 'mmgcs\[cloud\]' gcsfs"),
    ):
        with pytest.raises(UsageError, match=message):
            read_films(address)
