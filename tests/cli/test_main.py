"""The command line keeps its contract: one line per error, the right exit status, only results on stdout."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mmgcs
from mmgcs.bundle import DEFAULT_BUNDLE
from mmgcs.cli import COMMANDS, main
from mmgcs.cli.main import TRAIN
from mmgcs.cli.options import parse_columns
from mmgcs.errors import MmgcsError, UsageError
from mmgcs.sample import sample_films
from mmgcs.tables import read_films

PLOT = "Two detectives hunt a killer"


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["help"]])
def test_the_help_lists_every_command_and_the_exit_statuses(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 0
    out = capsys.readouterr().out
    assert [name for name in COMMANDS if not re.search(rf"^\W+{name} ", out, re.MULTILINE)] == []
    assert "Exit status: 0 done; 1 failed; 2 wrong call" in out
    assert "mmgcs[train]" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "-h"]) == 0
    out = capsys.readouterr().out
    assert f"Usage: mmgcs {name}" in out
    assert re.search(rf"^\s*mmgcs {name} (?!\[OPTIONS\])", out.partition("Examples:")[2], re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", ["", "library", "data"])
def test_a_group_alone_shows_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(name.split()) == 2
    captured = capsys.readouterr()
    assert f"Usage: mmgcs {name} [OPTIONS] COMMAND".replace("  ", " ") in captured.out
    assert captured.err == ""


def test_the_shell_can_complete_commands() -> None:
    environment = {**os.environ, "_MMGCS_COMPLETE": "complete_bash", "COMP_WORDS": "mmgcs ver", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-m", "mmgcs"], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["verify"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["predict", "A", "ghost"], "unexpected argument 'A ghost': put values after their options"),
        (["tga"], "there is no command 'tga'; did you mean 'tag'?"),
        (["predict", "--plto", "x"], "there is no option --plto; did you mean --plot? see mmgcs predict --help"),
        (["predict", "--plot"], "option '--plot' requires an argument; see mmgcs predict --help"),
        (["verify", ".", "--model", "."], "name the same thing; give one"),
        (["predict", "--plot", "a", "--plot-file", "b"], "were both given; give one"),
        (["predict", "--plot-file", "/nowhere.txt"], "cannot be read (No such file"),
        (["tag", "films.csv"], "--out"),
        (["tag", "/nowhere.csv", "--out", "-"], "does not exist"),
        (["tag", "-", "--out", "x.csv", "--engine", "abacus"], "no engine 'abacus'"),
        (["tag", "-", "--out", "-", "--resume"], "--resume needs a file"),
        (["verify", "/nowhere"], "does not exist"),
        (["library", "scan", ".", "--min-confidence", "70"], "see mmgcs library scan --help"),
        (["library", "scan"], "missing argument 'DIR'; see mmgcs library scan --help"),
        (["tag", "--foo"], "see mmgcs tag --help"),
    ],
)
def test_a_wrong_call_is_one_line_and_status_2(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("mmgcs: error: ")
    assert message in captured.err


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (MmgcsError("it broke"), 1, "it broke"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "out.csv"), 1, "out.csv: No space left on device"),
        (ModuleNotFoundError("No module named 'yaml'", name="yaml"), 2, 'needs pyyaml.*pip install "mmgcs\\[train\\]"'),
        (RuntimeError("two\nlines"), 1, "internal error .RuntimeError: two lines"),
    ],
)
def test_every_kind_of_failure_is_one_line_and_its_status(
    error: BaseException,
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setitem(COMMANDS, "predict", TRAIN)
    monkeypatch.setattr(importlib.import_module("mmgcs.cli.predict"), "_read_film", fail)
    monkeypatch.delenv("MMGCS_TRACEBACK", raising=False)
    assert main(["predict"]) == status
    (line,) = capsys.readouterr().err.splitlines()

    assert re.search(message, line)


def test_predict_prints_bars(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["predict", "--model", str(tiny_bundle), "--plot"]
    assert main([*call, "the city at night"]) == 0
    assert "From the plot: no genre is likely enough.\nNOT SURE" in capsys.readouterr().out
    assert main([*call, PLOT]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("* Crime")
    assert "From the plot: Crime, Thriller (confidence" in out
    likely = [int(percent) for percent in re.findall(r"(\d+)%  ", out)]
    assert likely == sorted(likely, reverse=True)
    assert max(map(len, out.splitlines())) <= 80


def test_the_demo_shows_commands_that_work_in_this_shell(tiny_bundle: Path, tmp_path: Path) -> None:
    call = [sys.executable, "-m", "mmgcs", "demo", "--model", str(tiny_bundle)]
    scripts = str(Path(sys.executable).parent)
    for path, start in ((f"{scripts}{os.pathsep}{os.environ['PATH']}", "mmgcs"), (str(tmp_path), sys.executable)):
        done = subprocess.run(call, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True)
        assert "The Big Parade (1925)" in done.stdout
        lines = [line.strip() for line in done.stdout.partition("Try your own:")[2].splitlines() if line.strip()]
        assert all(line.startswith((start, str(Path(start).with_name("mmgcs")))) for line in lines)
    environment = {**os.environ, "PATH": str(tmp_path)}
    for line in (lines[2], lines[3]):  # demo --copy, and tag
        subprocess.run(["/bin/sh", "-ec", line], cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert (tmp_path / "tagged.csv").is_file()


def test_the_demo_copies_files_to_practise_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "practice"
    assert main(["demo", "--copy", str(folder)]) == 0
    assert capsys.readouterr().out == f"films.csv, plot.txt, poster.jpg, posters/ are in {folder.resolve()}\n"
    films = [film for chunk in read_films(folder / "films.csv") for film in chunk]
    assert [film.id for film in films] == [film.id for film in sample_films()]
    assert all(film.poster.is_file() for film in films if isinstance(film.poster, Path))
    assert main(["demo", "--copy", str(folder), "--json"]) == 0  # equal files stay
    assert json.loads(capsys.readouterr().out)["files"] == ["films.csv", "plot.txt", "poster.jpg", "posters/"]


def test_the_demo_never_replaces_a_file_of_yours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plot.txt").write_text("mine", encoding="utf-8")
    assert main(["demo", "--copy", str(tmp_path)]) == 2
    assert "already exists with other content, so nothing was copied; give an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["plot.txt"]
    assert main(["demo", "--copy", str(tmp_path / "plot.txt")]) == 2
    assert "is a file, not a folder" in capsys.readouterr().err
    assert (tmp_path / "plot.txt").read_text(encoding="utf-8") == "mine"


def shell(line: str, folder: Path, **environment: str) -> tuple[int, str, str]:
    """Run a shell line in which `mmgcs` is the real command; return its status, stdout and stderr."""
    whole = f'mmgcs() {{ "{sys.executable}" -m mmgcs "$@"; }}; {line}'
    done = subprocess.run(["bash", "-c", whole], cwd=folder, capture_output=True, env={**os.environ, **environment})
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def odd_folder(tmp_path: Path, tiny_bundle: Path) -> Path:
    """A folder with a table, a folder of posters whose name is not UTF-8, and the bundle as `model`."""
    (tmp_path / "films.csv").write_text("id,plot,poster\n1,love,no.jpg\n2,,no.jpg\n", encoding="utf-8")
    (tmp_path / os.fsdecode(b"d\xff")).mkdir()
    (tmp_path / "model").symlink_to(tiny_bundle)
    return tmp_path


@pytest.mark.parametrize("encoding", ["", "ascii"])
def test_a_name_that_is_not_utf_8_is_shown_in_every_output(odd_folder: Path, encoding: str) -> None:
    said = {"PYTHONIOENCODING": encoding} if encoding else {}
    name = "d\\udcff/no.jpg does not exist"
    status, out, _ = shell("mmgcs predict --json --model model --poster $'d\\xff/no.jpg'", odd_folder, **said)
    assert status == 2
    assert name in json.loads(out)["error"]
    line = "mmgcs tag films.csv --model model --posters $'d\\xff' --out out.csv --problems $'d\\xff/p.csv' --json"
    status, out, _ = shell(line, odd_folder, **said)
    assert (status, json.loads(out)["written"]["problems"]) == (3, "d\udcff/p.csv")
    assert (odd_folder / "out.csv").read_text(encoding="utf-8").count(name) == 2


@pytest.mark.parametrize(("call", "status"), [("predict --plot love", 0), ("tag films.csv --out out.csv", 3)])
@pytest.mark.parametrize("streams", ["2>/dev/full", "<&- 2>&-"])
@pytest.mark.slow
def test_a_full_or_closed_stderr_does_not_matter(odd_folder: Path, call: str, status: int, streams: str) -> None:
    assert shell(f"mmgcs {call} --model model {streams}", odd_folder)[0] == status


@pytest.mark.parametrize("call", ["predict --plot-file p", "predict --plot-file p --json", "tag films.csv --out -"])
@pytest.mark.slow
def test_a_full_stdout_is_one_line_and_status_1(odd_folder: Path, call: str) -> None:
    (odd_folder / "p").write_text("love in the old city", encoding="utf-8")
    status, _, err = shell(f"mmgcs {call} --model model >/dev/full", odd_folder)
    assert status == 1
    assert err.count("\n") == 1
    assert "mmgcs: error: No space left" in err


@pytest.mark.parametrize("module", ["mmgcs.cli", "mmgcs.cli.predict", "onnxruntime"])
def test_ctrl_c_while_modules_are_imported_is_one_line_and_status_130(module: str) -> None:
    code = f"""
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
sys.argv = ["mmgcs", "predict", "--plot", "love"]
from mmgcs.__main__ import command
sys.exit(command())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "mmgcs: error: interrupted\n")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_plot_file_may_have_any_usual_encoding(
    encoding: str, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plot.txt").write_bytes(f"{PLOT} in a café".encode(encoding))
    assert main(["predict", "--plot-file", str(tmp_path / "plot.txt"), "--json", "--model", str(tiny_bundle)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["genres"], answer["warnings"]) == (["Crime", "Thriller"], [])


def test_predict_imports_no_heavy_packages_it_does_not_need(tiny_bundle: Path) -> None:
    code = (
        "import sys; from mmgcs.cli import main; "
        f"main(['predict', '--plot', 'love', '--json', '--model', {str(tiny_bundle)!r}]); "
        "print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'polars', 'rich', 'PIL', 'torch', 'sklearn', 'pandas'}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert json.loads(done.stdout)["genres"] == ["Romance"]
    assert done.stderr.strip() == "[]"


def test_a_column_that_is_not_a_pair_is_refused() -> None:
    for wrong in (["synopsis"], ["=synopsis"], ["plot="], ["plot=a", "plot=b"]):
        with pytest.raises(UsageError, match="--columns"):
            parse_columns(wrong)


def test_default_names_the_packaged_model() -> None:
    assert main(["predict", "--model", "default", "--plot", PLOT]) == 0
    assert main(["verify", "--model", "default"]) == 0


def test_python_predicts_from_films_strings_and_mappings(tiny_bundle: Path) -> None:
    assert {"load", "Film", "Classifier", "Prediction", "explain"} <= set(dir(mmgcs))
    assert mmgcs.load("default").bundle.path == DEFAULT_BUNDLE
    films = [mmgcs.Film(plot=PLOT), PLOT, {"plot": PLOT, "studio": "Ufa"}]
    predictions = mmgcs.load(tiny_bundle).predict_batch(films)
    assert [prediction.genres for prediction in predictions] == [("Crime", "Thriller")] * 3
    assert predictions[0].to_dict()["genres"] == ["Crime", "Thriller"]
