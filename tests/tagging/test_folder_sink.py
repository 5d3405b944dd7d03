"""The results of a cluster: Parquet parts and a manifest, in any folder; an interrupted run can be resumed."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from http_server import picture

from mmgcs.cli import main
from mmgcs.errors import UsageError
from mmgcs.runtime import Classifier
from mmgcs.tables import CHUNK, FilmTable, Folder
from mmgcs.tagging import FolderSink, Pipeline, TagSummary

fsspec = pytest.importorskip("fsspec")

DEPLOY = Path(__file__).parents[2] / "deploy"
HEADER = "id,plot,poster\n"


class Stop(Exception):
    pass


def tag(
    classifier: Classifier, films: Path | str, out: Path | str, *, stop_after: int = 10**9, **options: Any
) -> TagSummary:
    table = FilmTable(films, posters=options.pop("posters", None))
    sink = FolderSink(table, Folder(out), classifier, part_films=CHUNK, **options)

    def progress(summary: TagSummary) -> None:
        if summary.films >= stop_after:
            raise Stop

    return Pipeline(classifier).run(table.chunks(), sink, progress)


def whole_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*"))}


def test_an_interrupted_run_continues_to_the_same_bytes(classifier: Classifier, tmp_path: Path) -> None:
    plots = ["A ghost", "", "love in the city"]
    rows = "".join(f"{n % 900},{plots[n % 3]},\n" for n in range(3 * CHUNK + 1))
    films, one, two = tmp_path / "films.csv", tmp_path / "one", tmp_path / "two"
    films.write_text(HEADER + rows, encoding="utf-8")
    whole = tag(classifier, films, one)
    with pytest.raises(Stop):
        tag(classifier, films, two, stop_after=2 * CHUNK)
    assert list(whole_files(two)) == ["part-000000.parquet", "part-000001.parquet"]
    assert not (two / "manifest.json").exists()
    with pytest.raises(UsageError, match="holds an unfinished run; give --resume to continue it, or --overwrite"):
        tag(classifier, films, two)
    again = tag(classifier, films, two, resume=True)
    assert (again.films, again.genres, again.errors) == (whole.films, whole.genres, whole.errors)
    assert whole_files(one) == whole_files(two)
    manifest = json.loads((two / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["films"], len(manifest["parts"])) == (3 * CHUNK + 1, 4)
    for part in manifest["parts"]:
        assert hashlib.sha256((two / part["file"]).read_bytes()).hexdigest() == part["sha256"]
    assert "occurs earlier" in pl.read_parquet(two / "part-000003.parquet")["warnings"][0][0]
    with films.open("a") as handle:
        handle.write("new,film,1\n")
    with pytest.raises(UsageError, match="had a different table of films"):
        tag(classifier, films, two, resume=True)
    (two / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"also holds other files, such as notes\.txt; choose another --out"):
        tag(classifier, films, two, overwrite=True)
    (two / "notes.txt").unlink()
    for folder in (two, tmp_path / "new"):  # a run that never starts, for example because the cluster is away
        FolderSink(FilmTable(films), Folder(folder), classifier, overwrite=True)
    assert (two / "manifest.json").exists() and not (tmp_path / "new").exists()
    assert tag(classifier, films, two, overwrite=True).films == 3 * CHUNK + 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="is not empty and holds no tagged films"):
        tag(classifier, films, tmp_path / "mine", overwrite=True)


@pytest.fixture
def store() -> Iterator[Any]:
    """Object store of this process; its addresses begin with `memory://`."""
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/films", recursive=True)


def test_films_posters_and_results_may_be_in_an_object_store(classifier: Classifier, store: Any) -> None:
    store.pipe_file("/films/tables/a.csv", (HEADER + "a,,p/1.jpg\nb,,none.jpg\nc,A ghost,none.jpg\n").encode())
    store.pipe_file("/films/tables/b.csv", (HEADER + "d,,../../secret.jpg\n").encode())
    store.pipe_file("/films/tables/notes.txt", b"no table")
    store.pipe_file("/films/posters/p/1.jpg", picture())
    tag(classifier, "memory://films/tables", "memory://films/out", posters="memory://films/posters")
    frame = pl.read_parquet(store.cat_file("/films/out/part-000000.parquet"))
    rows = {row["id"]: row for row in frame.iter_rows(named=True)}
    assert rows["a"]["inputs"] == ["poster"]
    assert rows["b"]["error"] == "the poster memory://films/posters/none.jpg does not exist; check the path"
    assert rows["c"]["inputs"] == ["plot"]
    assert "none.jpg does not exist" in rows["c"]["warnings"][0]
    assert "is outside the posters folder" in rows["d"]["error"]


def test_columns_of_parquet_and_of_folder_names_are_kept(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "films" / "country=fr" / "films.parquet"
    path.parent.mkdir(parents=True)
    pl.DataFrame({"id": ["a", "b"], "poster": [picture(), None], "year": [1999, None]}).write_parquet(path)
    tag(classifier, tmp_path / "films", tmp_path / "out")
    frame = pl.read_parquet(tmp_path / "out" / "part-000000.parquet")
    assert frame["inputs"].to_list() == [["poster"], []]
    assert frame.select("country", "year").rows() == [("fr", 1999), ("fr", None)]
    assert frame["poster"].to_list() == [picture(), None]
    assert frame.schema["year"] == pl.Int64()


def test_a_column_that_the_first_table_lacks_is_named(classifier: Classifier, store: Any) -> None:
    store.pipe_file("/films/a.csv", b"id,plot\na,A ghost\n")
    store.pipe_file("/films/b.csv", b"id,plot,rating\nb,A ghost,7\n")
    with pytest.raises(UsageError, match="the column 'rating' is missing in the first table"):
        tag(classifier, "memory://films", "memory://films/out")


def test_without_ray_the_extra_is_named(tmp_path: Path) -> None:
    code = "import sys; sys.modules['ray'] = None; from mmgcs.cli import main; sys.exit(main(sys.argv[1:]))"
    call = ["tag", str(tmp_path), "--out", str(tmp_path / "out"), "--engine", "ray"]
    done = subprocess.run([sys.executable, "-c", code, *call], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'mmgcs tag needs ray, which is not installed; pip install "mmgcs[scale]"' in done.stderr


def test_the_manifest_runs_a_command_that_exists_on_the_image_that_is_built(
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = yaml.safe_load((DEPLOY / "kuberay.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    program, command, *words = shlex.split(job["spec"]["entrypoint"])
    assert program == "mmgcs"
    assert main([command, "--help"]) == 0
    told = capsys.readouterr().out
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", told), option
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = {group["template"]["spec"]["containers"][0]["image"] for group in groups}
    image = (DEPLOY / "ray.Dockerfile").read_text(encoding="utf-8")
    assert f"FROM rayproject/ray:{cluster['rayVersion']}-" in image
    assert [f"-t {name.split(':')[0]} " in image for name in images] == [True]
