"""If two processes write the same output, one is told to wait and the other finishes undisturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from http_server import Server, send
from tiny_training import PLOT, errors, run_command, train_command, write_recipe

from mmgcs.bundle import Bundle, write_bundle
from mmgcs.errors import UsageError
from mmgcs.files import LOCK, lock_folder

HOLD = """
import sys, time
from pathlib import Path
from mmgcs.files import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path: Path):
    """Let another process lock a folder; it is killed at the end of the test."""
    started = []

    def hold(folder: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def test_a_folder_is_locked_until_the_process_ends_in_any_way(tmp_path: Path, other) -> None:
    folder = tmp_path / "out"
    process = other(folder)
    with pytest.raises(UsageError, match=f"another mmgcs is writing {folder}; wait for it to end"), lock_folder(folder):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with lock_folder(folder):
        assert [path.name for path in folder.iterdir()] == [LOCK]
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_second_training_in_the_same_folder_is_refused(tmp_path: Path, other) -> None:
    plot = {**PLOT, "training": {**PLOT["training"], "epochs": 1}}
    recipe, out = write_recipe(tmp_path / "r.yaml", plot=plot), tmp_path / "run"
    process = other(out)
    for more in ((), ("--resume",)):
        done = run_command(train_command(recipe, out, *more))
        assert done.returncode == 2
        (line,) = errors(done.stderr)
        assert f"another mmgcs is writing {out}; wait for it to end" in line
    process.kill()
    process.wait()
    assert run_command(train_command(recipe, out)).returncode == 0
    assert Bundle(out / "bundle").check() == []


def test_a_second_download_into_the_same_folder_is_refused(tmp_path: Path, other) -> None:
    server = Server()
    server.answers = {"/v.zip": send(b"")}
    films = tmp_path / "films.jsonl"
    films.write_text(f'{{"id": "1", "plot": "x", "genres": "Drama", "poster_url": "{server.url}/v.zip"}}\n', "utf-8")
    other(tmp_path / "out")
    try:
        for command in (["glove", "--url", f"{server.url}/v.zip"], ["posters", str(films), "--allow-private"]):
            done = run_command([sys.executable, "-m", "mmgcs", "data", *command, "--out", str(tmp_path / "out")])
            assert done.returncode == 2, done.stderr
            assert "another mmgcs is writing" in done.stderr
            assert done.stderr.count("\n") == 1
        assert not server.seen
    finally:
        server.close()


def test_if_two_processes_write_one_bundle_the_slower_one_is_refused(tmp_path: Path, tiny_bundle: Path) -> None:
    config, path = Bundle(tiny_bundle).config, tmp_path / "bundle"

    def meanwhile(folder: Path) -> None:
        (folder / "late.txt").write_text("late", encoding="utf-8")
        write_bundle(path, config, lambda other: None)

    with pytest.raises(UsageError, match="another mmgcs has written"):
        write_bundle(path, config, meanwhile)
    assert Bundle(path).check() == []
    assert "late.txt" not in Bundle(path).files
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]
