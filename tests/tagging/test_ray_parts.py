"""The work of a cluster falls into parts that anyone can do at any time, with films and posters from anywhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from http_server import picture

from mmgcs import load
from mmgcs.cli import main
from mmgcs.errors import UsageError
from mmgcs.tables import CHUNK, find_tables

pytest.importorskip("ray", reason='Ray is not installed: pip install "mmgcs[scale]"')
pytest.importorskip("fsspec")

import fsspec

from mmgcs.tagging.ray_engine import ClusterRun, Tagger, count_parts

DEPLOY = Path(__file__).parents[2] / "deploy"
HEADER = "id,plot,poster\n"
TYPES = dict.fromkeys(("id", "plot", "poster"), "text")


def make_run(films: Path | str, out: Path | str, types: dict[str, Any] = TYPES, **options: Any) -> ClusterRun:
    return ClusterRun(tuple(find_tables(films)), str(out), part_chunks=1, types=types, **options)


def tagger(run: ClusterRun, bundle: Path) -> Tagger:
    files = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    return Tagger(run, files)


@pytest.mark.parametrize(("films", "parts"), [(0, 1), (1, 1), (CHUNK, 1), (CHUNK + 1, 2), (2 * CHUNK, 2)])
def test_a_table_falls_into_parts(films: int, parts: int, tmp_path: Path) -> None:
    path = tmp_path / "films.csv"
    path.write_text(HEADER + "".join(f"{n},A ghost,\n" for n in range(films)), encoding="utf-8")
    assert count_parts(make_run(path, tmp_path / "out"), 0) == parts


def test_parts_are_the_same_in_any_order_and_written_once(tiny_bundle: Path, tmp_path: Path) -> None:
    plots = ["A ghost", "", "love in the city"]
    rows = "".join(f"{n % 900},{plots[n % 3]},\n" for n in range(4 * CHUNK))
    (tmp_path / "films.csv").write_text(HEADER + rows, encoding="utf-8")
    found = []
    for name, order in (("one", range(4)), ("two", (2, 0, 3, 1))):
        worker = tagger(make_run(tmp_path / "films.csv", tmp_path / name), tiny_bundle)
        notes = sorted((worker.tag(0, number) for number in order), key=lambda note: str(note["file"]))
        found.append([(note["file"], note["sha256"]) for note in notes])
        assert sum(note["summary"]["films"] for note in notes) == 4 * CHUNK
        changed = (tmp_path / name / notes[0]["file"]).stat().st_mtime_ns
        assert worker.tag(0, 0) == notes[0]
        assert (tmp_path / name / notes[0]["file"]).stat().st_mtime_ns == changed
    assert found[0] == found[1]
    last = pl.read_parquet(tmp_path / "one" / "part-00000-00003.parquet")
    assert "occurs earlier" in last["warnings"][0][0]  # ids are known from the parts before
    assert load(tiny_bundle).predict(plot="A ghost").genres == tuple(last["genres"][0])


def test_films_posters_and_results_may_lie_in_an_object_store(tiny_bundle: Path) -> None:
    store = fsspec.filesystem("memory")
    store.pipe_file("/films/tables/a.csv", (HEADER + "a,,p/1.jpg\nb,,none.jpg\nc,A ghost,none.jpg\n").encode())
    store.pipe_file("/films/tables/b.csv", (HEADER + "d,,../../secret.jpg\n").encode())
    store.pipe_file("/films/tables/notes.txt", b"no table")
    store.pipe_file("/films/posters/p/1.jpg", picture())
    try:
        run = make_run("memory://films/tables", "memory://films/out", posters="memory://films/posters")
        worker = tagger(run, tiny_bundle)
        notes = [worker.tag(shard, 0) for shard in range(2)]
        frames = [pl.read_parquet(store.cat_file(f"/films/out/{note['file']}")) for note in notes]
    finally:
        store.rm("/films", recursive=True)
    rows = {row["id"]: row for row in pl.concat(frames).iter_rows(named=True)}
    assert rows["a"]["inputs"] == ["poster"]
    assert rows["b"]["error"] == "the poster memory://films/posters/none.jpg does not exist; check the path"
    assert rows["c"]["inputs"] == ["plot"]
    assert "none.jpg does not exist" in rows["c"]["warnings"][0]
    assert "leads out of the posters folder" in rows["d"]["error"]


def test_columns_of_parquet_and_of_folders_names_are_kept(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "films" / "country=fr" / "films.parquet"
    path.parent.mkdir(parents=True)
    pl.DataFrame({"id": ["a", "b"], "poster": [picture(), None], "year": [1999, None]}).write_parquet(path)
    types = dict(pl.read_parquet_schema(path)) | {"id": "text", "country": "text"}
    run = make_run(tmp_path / "films", tmp_path / "out", types)
    frame = pl.read_parquet(tmp_path / "out" / tagger(run, tiny_bundle).tag(0, 0)["file"])
    assert frame["inputs"].to_list() == [["poster"], []]
    assert frame.select("country", "year").rows() == [("fr", 1999), ("fr", None)]
    assert frame["poster"].to_list() == [picture(), None]
    assert frame.schema["year"] == pl.Int64()


def test_a_table_with_other_columns_is_named(tmp_path: Path) -> None:
    path = tmp_path / "films.csv"
    path.write_text("id,plot,rating\na,A ghost,7\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"films\.csv has the column 'rating', which the first table does not have"):
        count_parts(make_run(path, tmp_path / "out"), 0)
    path.write_text(HEADER, encoding="utf-8")
    with pytest.raises(UsageError, match=r"films\.csv has another type in the column 'id' than the first table"):
        count_parts(make_run(path, tmp_path / "out", TYPES | {"id": pl.Int64()}), 0)


def test_without_ray_the_extra_is_named(tmp_path: Path) -> None:
    code = "import sys; sys.modules['ray'] = None; from mmgcs.cli import main; sys.exit(main(sys.argv[1:]))"
    call = ["tag", str(tmp_path), "--out", str(tmp_path / "out"), "--engine", "ray"]
    done = subprocess.run([sys.executable, "-c", code, *call], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert '--engine ray needs ray, which is not installed; pip install "mmgcs[scale]"' in done.stderr


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
