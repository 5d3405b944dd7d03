"""If a write fails or the process dies there, the old or the new state is complete, and a second run succeeds.

This is tried at every write, fsync and rename of each command; of a training, whose steps repeat, at the first and last
of each kind.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults import DEAD, Faults, Outcome, numbers, whole_files
from http_server import Server, picture, send
from tiny_training import PLOT, write_recipe

from mmgcs.bundle import CONFIG, Bundle, write_bundle
from mmgcs.errors import UsageError
from mmgcs.library.nfo import read_nfo
from mmgcs.sample import sample_table

HOW = ("fail", "die")
# Imported once, because imports take most of the time of a small call.
COMMAND = ("pydantic.fields", "pydantic.type_adapter", "pydantic.types")
RUNNING = "mmgcs.cli.tag mmgcs.cli.library mmgcs.runtime mmgcs.tagging.sinks mmgcs.tables polars".split()
LEARNING = (
    "mmgcs.cli.train mmgcs.cli.export mmgcs.training mmgcs.training.compress mmgcs.evaluation.ensemble "
    "mmgcs.export.join"
).split()
FETCHING = "rich.progress mmgcs.cli.data mmgcs.datasets.posters mmgcs.datasets.glove mmgcs.datasets.sources".split()


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Faults]]:
    started: dict[tuple[str, ...], Faults] = {}

    def with_modules(*modules: str) -> Faults:
        if modules not in started:
            started[modules] = Faults(tmp_path_factory.mktemp("faults"), *COMMAND, *modules)
        return started[modules]

    yield with_modules
    for process in started.values():
        process.close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


def assert_told(outcome: Outcome, how: str, point: str, *, status: tuple[int, ...] = (1,)) -> None:
    """Check that it died, or ended with one line that says what happened."""
    if how == "die":
        assert outcome.status == DEAD, point
        return
    errors = [line for line in outcome.said.splitlines() if "rror:" in line or "Traceback" in line]
    if outcome.status == 0:  # what failed was optional (a copy that saves time)
        assert errors == [], point
        return
    assert outcome.status in status, (point, outcome.said)
    assert len(errors) == 1, (point, outcome.said)
    assert "No space left on device" in errors[0] or "is full" in errors[0], (point, errors)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl.gz"])
def test_tagging_keeps_the_old_table_until_the_new_one_is_complete(kind, tmp_path, tiny_bundle, faults):
    films, out = tmp_path / "films.csv", tmp_path / "out" / f"tagged.{kind}"
    films.write_text("id,title,plot\n1,A,a ghost\n2,B,love in the city\n3,C,\n", encoding="utf-8")
    review = out.parent / "review.csv"
    command = ["tag", films, "--out", out, "--model", tiny_bundle, "--review", review, "--quiet"]
    run = faults(*RUNNING)
    assert run.call(*command).status == 3
    new = whole_files(out.parent)
    undisturbed = run.call(*command, "--overwrite")
    assert len(undisturbed.points) > 8
    for number, point in enumerate(undisturbed.points, 1):
        for how in HOW:
            for name in new:
                (out.parent / name).write_bytes(b"old")
            assert_told(run.call(*command, "--overwrite", at=number, how=how), how, point)
            now = {path.name: path.read_bytes() for path in out.parent.glob("[!.]*") if path.is_file()}
            assert set(now) == set(new), point
            assert all(content in (b"old", new[name]) for name, content in now.items()), point
            assert run.call(*command, "--overwrite", "--resume").status == 3, point
            assert whole_files(out.parent) == new, point
            assert len(list(out.parent.iterdir())) == len(new), point


def test_tagging_a_library_leaves_every_file_old_or_new_and_undo_restores_all(tmp_path, tiny_bundle, faults):
    library, kept = tmp_path / "Films", tmp_path / "kept"
    for name, plot in {"A (2001)": "a ghost and a vampire", "B (2002)": "love in the old city"}.items():
        (kept / name).mkdir(parents=True)
        (kept / name / "movie.nfo").write_text(f"<movie><title>{name}</title><plot>{plot}</plot></movie>", "utf-8")
    old = whole_files(kept)
    command = ["library", "tag", library, "--model", tiny_bundle, "--min-confidence", 0, "--apply"]
    run = faults(*RUNNING)
    shutil.copytree(kept, library)
    undisturbed = run.call(*command)
    new = whole_files(library)
    assert undisturbed.status == 0
    assert all(read_nfo(content).genres for content in new.values())
    assert len(undisturbed.points) > 8
    for number, point in enumerate(undisturbed.points, 1):
        for how in HOW:
            shutil.rmtree(library)
            shutil.copytree(kept, library)
            assert_told(run.call(*command, at=number, how=how), how, point, status=(1, 2, 3))
            now = whole_files(library)
            assert all(now[name] in (old[name], new[name]) for name in old), point
            assert run.call(*command).status == 0, point
            assert whole_files(library) == new, point
            assert run.call("library", "undo", library).status == 0, point
            assert whole_files(library) == old, point


@pytest.mark.parametrize("how", HOW)
@pytest.mark.slow
def test_a_training_resumes_after_a_crash_at_any_write(how, tmp_path, faults):
    plot = {**PLOT, "training": {**PLOT["training"], "batch_size": 20}}
    recipe, out = write_recipe(tmp_path / "r.yaml", plot=plot), tmp_path / "run"
    table = sample_table()
    command = ["train", recipe, "--data", table, "--posters", table.parent, "--out", out, "--quiet"]
    run = faults(*LEARNING)
    undisturbed = run.call(*command)
    assert undisturbed.status == 0, undisturbed.said
    expected = Bundle(out / "bundle").read("plot.onnx")
    points = numbers(undisturbed.points, all_of=False)
    assert len(points) > 15
    for number in points:
        shutil.rmtree(out)
        point = undisturbed.points[number - 1]
        assert_told(run.call(*command, at=number, how=how), how, point)
        if (out / "bundle").exists():
            assert Bundle(out / "bundle").check() == [], point
        again = run.call(*command, "--resume")
        assert again.status == 0, (point, again.said)
        bundle = Bundle(out / "bundle")
        assert bundle.check() == [], point
        assert bundle.read("plot.onnx") == expected, point


@pytest.mark.parametrize("kind", ["export", "ensemble"])
@pytest.mark.slow
def test_an_export_writes_a_complete_bundle_or_nothing(kind, tmp_path, tiny_bundle, faults):
    out = tmp_path / "out" / "written"
    joined = [tiny_bundle, tiny_bundle, "--data", sample_table(), "--method", "stacked"]  # the quicker method
    ways = {"export": [tiny_bundle], "ensemble": joined}
    command = [kind, *ways[kind], "--out", out]
    run = faults(*LEARNING)
    undisturbed = run.call(*command)
    assert undisturbed.status == 0, undisturbed.said
    new = whole_files(out)
    for number, point in enumerate(undisturbed.points, 1):
        for how in HOW:
            shutil.rmtree(out.parent)
            assert_told(run.call(*command, at=number, how=how), how, point)
            assert not out.exists(), point
            if how == "fail":
                assert list(out.parent.iterdir()) == [], point
            assert run.call(*command).status == 0, point
            assert whole_files(out) == new, point


@pytest.mark.parametrize("how", HOW)
@pytest.mark.slow
def test_an_int8_export_writes_a_complete_bundle_or_nothing(how, tmp_path, tiny_bundle, faults):
    """This is tried at an intermediate graph, at the first complete bundle, and at the last rename."""
    out, table = tmp_path / "out" / "small", sample_table()
    command = ["export", tiny_bundle, "--out", out, "--int8", "--data", table, "--posters", table.parent]
    run = faults(*LEARNING)
    undisturbed = run.call(*command)
    assert undisturbed.status == 0, undisturbed.said
    points = undisturbed.points
    assert points[-1] == "rename small"
    for number in (points.index("write small.onnx") + 1, points.index("rename trial") + 1, len(points)):
        shutil.rmtree(out.parent)
        assert_told(run.call(*command, at=number, how=how), how, points[number - 1])
        assert not out.exists(), points[number - 1]
        if how == "fail":
            assert list(out.parent.iterdir()) == [], points[number - 1]
    again = run.call(*command)
    assert again.status == 0, again.said
    assert Bundle(out).check() == []


def test_while_a_bundle_is_replaced_either_the_old_or_the_new_one_is_complete(tmp_path, tiny_bundle, monkeypatch):
    path = tmp_path / "bundle"
    real = Path.rename
    for how in (OSError("no room"), KeyboardInterrupt()):
        for broken in (1, 2):
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(tiny_bundle, path)
            calls = []

            def rename(self, target, calls=calls, broken=broken, how=how):
                calls.append(target)
                if len(calls) == broken:
                    raise how
                return real(self, target)

            with monkeypatch.context() as patch, pytest.raises(type(how)):
                patch.setattr(Path, "rename", rename)
                write_bundle(path, Bundle(tiny_bundle).config, lambda folder: None, replace=True)
            assert Bundle(path).check() == []
            assert whole_files(path) == whole_files(tiny_bundle)
            assert list(tmp_path.iterdir()) == [path]


def test_a_bundle_is_found_again_after_a_crash_between_the_renames(tmp_path, tiny_bundle):
    path, config = tmp_path / "bundle", Bundle(tiny_bundle).config
    shutil.copytree(tiny_bundle, tmp_path / ".bundle.old")
    for _ in range(2):
        assert Bundle(path).check() == []
        assert [entry.name for entry in tmp_path.iterdir()] == [".bundle.old"]  # a reader changes nothing
    with pytest.raises(UsageError, match=r"\.bundle\.old already holds a bundle"):
        write_bundle(path, config, lambda folder: None)
    write_bundle(path, config, lambda folder: None, replace=True)
    assert Bundle(path).check() == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.usefixtures("like_windows")
def test_a_bundle_is_written_and_replaced_on_windows_where_folders_are_never_replaced_by_a_rename(
    tmp_path, tiny_bundle
):
    path, config = tmp_path / "bundle", Bundle(tiny_bundle).config
    path.mkdir()
    write_bundle(path, config, lambda folder: None)
    assert Bundle(path).check() == []
    write_bundle(path, config, lambda folder: (folder / "new.txt").write_text("new", "utf-8"), replace=True)
    assert set(Bundle(path).files) == {CONFIG, "new.txt"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]


def test_word_vectors_are_complete_or_missing(tmp_path, server, faults):
    lines = "".join(f"{word} {' '.join('0.5' for _ in range(50))}\n" for word in ("the", "film"))
    server.answers = {"/glove.6B.50d.txt": send(lines.encode(), ETag='"1"')}
    command = ["data", "glove", "--dim", 50, "--url", f"{server.url}/glove.6B.50d.txt", "--out", tmp_path / "vectors"]
    run = faults(*FETCHING)
    undisturbed = run.call(*command)
    assert undisturbed.status == 0, undisturbed.said
    for number, point in enumerate(undisturbed.points, 1):
        for how in HOW:
            shutil.rmtree(tmp_path / "vectors")
            assert_told(run.call(*command, at=number, how=how), how, point)
            target = tmp_path / "vectors" / "glove.6B.50d.txt"
            assert not target.exists() or target.read_text(encoding="utf-8") == lines, point
            again = run.call(*command)
            assert again.status == 0, (point, again.said)
            assert target.read_text(encoding="utf-8") == lines, point
            assert not list(target.parent.glob("*.part")), point


def test_posters_are_complete_or_missing(tmp_path, server, faults):
    server.answers = {"/a": send(picture()), "/b": send(picture("PNG"))}
    films, out = tmp_path / "films.jsonl", tmp_path / "out" / "posters"
    rows = [{"id": name, "plot": "a ghost", "genres": "Horror", "poster_url": f"{server.url}/{name}"} for name in "ab"]
    rows.append({"id": "c", "plot": "a ghost", "genres": "Horror", "poster_url": f"{server.url}/c"})
    films.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    command = ["data", "posters", films, "--out", out, "--allow-private", "--retries", 0]
    command += ["--films-out", tmp_path / "out" / "films.csv"]
    run = faults(*FETCHING)
    undisturbed = run.call(*command)
    assert undisturbed.status == 3, undisturbed.said
    new = whole_files(tmp_path / "out")
    assert len(new) == 4
    for number, point in enumerate(undisturbed.points, 1):
        for how in HOW:
            shutil.rmtree(tmp_path / "out")
            assert_told(run.call(*command, at=number, how=how), how, point)
            now = whole_files(tmp_path / "out")
            assert all(new[name] == content for name, content in now.items()), point
            again = run.call(*command)
            assert again.status in (0, 3), (point, again.said)  # 0 if the failed one is already known
            assert whole_files(tmp_path / "out") == new, point
