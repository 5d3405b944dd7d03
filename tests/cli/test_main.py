"""The command line keeps its contract: one line an error, the right exit status, results alone on stdout."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmgcs.cli import COMMANDS, main
from mmgcs.cli.main import Command, available
from mmgcs.errors import MmgcsError

PLOT = "Two detectives hunt a killer"


def test_the_help_names_every_command_that_exists_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert shown == list(available())
    assert {"predict", "tag", "verify", "demo"} <= set(shown)


@pytest.mark.parametrize("name", ["predict", "tag", "verify", "demo"])
def test_every_command_has_a_help_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"mmgcs {name}" in out
    assert "--model" in out or "BUNDLE" in out.upper()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_is_plain_text(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert not set("╭│╰") & set(capsys.readouterr().out)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mmgcs 0.")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["tga"], "there is no command 'tga'; did you mean 'tag'?"),
        (["predict"], "nothing to predict from; give --plot, --plot-file or --poster"),
        (["predict", "--plto", "x"], "--plto"),
        (["predict", "--plot"], "expected one argument"),
        (["predict", "--plot", "a", "--plot-file", "b"], "were both given; give one"),
        (["predict", "--plot-file", "/nowhere.txt"], "does not exist"),
        (["tag", "films.csv"], "--out"),
        (["tag", "/nowhere.csv", "--out", "-"], "does not exist"),
        (["tag", "-", "--out", "x.xlsx"], "no output format '.xlsx'"),
        (["tag", "-", "--out", "x.csv", "--engine", "abacus"], "no engine 'abacus'"),
        (["tag", "-", "--out", "-", "--resume"], "--resume needs a file"),
        (["verify", "/nowhere"], "does not exist"),
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


def test_no_command_shows_the_help_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Usage: mmgcs COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (MmgcsError("it broke"), 1, "it broke"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "out.csv"), 1, "out.csv: No space left on device"),
        (ModuleNotFoundError("No module named 'yaml'", name="yaml"), 2, 'needs pyyaml.*pip install "mmgcs\\[train\\]"'),
        (RuntimeError("two\nlines"), 1, "an error in mmgcs itself .RuntimeError: two lines"),
    ],
)
def test_every_kind_of_failure_is_one_line_and_its_status(
    error: BaseException,
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(program: str, args: list[str]) -> int:
        raise error

    monkeypatch.setitem(COMMANDS, "predict", Command("mmgcs.cli.predict", "", "train"))
    monkeypatch.setattr(importlib.import_module("mmgcs.cli.predict"), "run", run)
    monkeypatch.delenv("MMGCS_TRACEBACK", raising=False)
    assert main(["predict"]) == status
    (line,) = capsys.readouterr().err.splitlines()

    assert re.search(message, line)


def test_errors_are_json_too_where_json_was_asked_for(capsys: pytest.CaptureFixture[str], tiny_bundle: Path) -> None:
    assert main(["predict", "--poster", "/nowhere.jpg", "--json", "--model", str(tiny_bundle)]) == 2
    assert "does not exist" in json.loads(capsys.readouterr().out)["error"]


def test_a_damaged_bundle_fails_with_status_1(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    with (copy / "plot.onnx").open("ab") as handle:
        handle.write(b"x")
    assert main(["predict", "--plot", PLOT, "--model", str(copy)]) == 1
    assert "differs from its SHA-256" in capsys.readouterr().err
    assert main(["verify", str(copy), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["passed"] is False


def test_predict_prints_bars_for_a_person(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--plot", PLOT, "--model", str(tiny_bundle)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("* Crime")
    assert "From the plot: Crime, Thriller (confidence" in out


def test_predict_says_plainly_that_it_is_not_sure(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--plot", "the city at night", "--model", str(tiny_bundle)]) == 0
    out = capsys.readouterr().out
    assert "no genre is likely enough" in out
    assert "NOT SURE" in out


def test_a_plot_file_may_have_a_byte_order_mark(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plot.txt"
    path.write_bytes(b"\xef\xbb\xbf" + PLOT.encode() + b"\xff")
    assert main(["predict", "--plot-file", str(path), "--json", "--model", str(tiny_bundle)]) == 0
    assert json.loads(capsys.readouterr().out)["genres"] == ["Crime", "Thriller"]


def test_the_demo_shows_truth_beside_prediction_and_the_next_command(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--model", str(tiny_bundle)]) == 0
    out = capsys.readouterr().out
    assert "Nosferatu (1922)" in out
    assert "mmgcs predict --plot" in out


def run(*args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "mmgcs", *args], input=stdin, capture_output=True)


def test_the_real_process_tags_from_a_pipe_to_a_pipe(tiny_bundle: Path) -> None:
    done = run("tag", "-", "--out", "-", "--model", str(tiny_bundle), stdin=b"id,plot\na,love in the city\nb,\n")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["id"] for row in rows] == ["a", "b"]
    assert done.returncode == 3
    assert b"2 films in" in done.stderr
    assert b"error in 1: the plot is empty" in done.stderr or b"error in 1: there is nothing" in done.stderr


def test_the_real_process_refuses_an_existing_output(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "films.csv").write_text("id,plot\na,love\n", encoding="utf-8")
    (tmp_path / "out.csv").write_text("mine", encoding="utf-8")
    done = run("tag", str(tmp_path / "films.csv"), "--out", str(tmp_path / "out.csv"), "--model", str(tiny_bundle))
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"exists; give --overwrite" in done.stderr
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == "mine"


def test_predict_imports_nothing_that_it_does_not_need(tiny_bundle: Path) -> None:
    code = (
        "import sys; from mmgcs.cli import main; "
        f"main(['predict', '--plot', 'love', '--json', '--model', {str(tiny_bundle)!r}]); "
        "print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'polars', 'pydantic', 'rich', 'typer', 'torch', 'sklearn', 'pandas'}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert json.loads(done.stdout)["genres"] == ["Romance"]
    assert done.stderr.strip() == "[]"


def test_a_plot_is_answered_without_loading_pillow():
    code = (
        "import sys; from mmgcs.cli import main; status = main(['predict', '--plot', 'A ghost haunts a house.']); "
        "sys.exit(status or 'PIL.Image' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_the_installed_predict_ends_with_its_status_and_all_that_it_wrote():
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "mmgcs", *arguments], capture_output=True, text=True)

    done = call("predict", "--json", "--plot", "A ghost haunts a house.")
    assert done.returncode == 0 and json.loads(done.stdout)["genres"]
    assert (refused := call("predict")).returncode == 2 and refused.stderr.count("\n") == 1
