"""`mmgcs tag`: formats of stdin and stdout, lists, the summary, and refused calls."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
import pytest

from mmgcs.cli import main

TABLE = "id,plot,genres\na,love in the city,Romance\nb,,\nc,a ghost and a vampire,Comedy\n"


def run(*args: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "mmgcs", "tag", *map(str, args)], input=stdin, capture_output=True)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    path = tmp_path / "films.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def stored(kind: str) -> bytes:
    frame = pl.read_csv(TABLE.encode())
    buffer = io.BytesIO()
    if kind == "parquet":
        frame.write_parquet(buffer)
        return buffer.getvalue()
    data = (frame.write_ndjson() if "jsonl" in kind else frame.write_csv()).encode()
    return gzip.compress(data) if kind.endswith(".gz") else data


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "jsonl", "jsonl.gz", "parquet"])
def test_every_format_is_read_from_stdin_and_written_to_stdout(kind: str, tiny_bundle: Path) -> None:
    done = run("-", "--format", kind, "--out", "-", "--out-format", kind, "--model", tiny_bundle, stdin=stored(kind))
    assert done.returncode == 3, done.stderr
    data = gzip.decompress(done.stdout) if kind.endswith(".gz") else done.stdout
    if kind == "parquet":
        genres = pl.read_parquet(io.BytesIO(data))["genres"].to_list()
    elif "csv" in kind:
        genres = [
            [name for name in row["genres"].split("|") if name] for row in csv.DictReader(io.StringIO(data.decode()))
        ]
    else:
        genres = [json.loads(line)["genres"] for line in data.splitlines()]
    assert genres == [["Romance"], [], ["Horror"]]


def test_the_summary_is_one_json_value_on_stdout(films: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    done = run(films, "--out", tmp_path / "o.csv", "--review", tmp_path / "r.csv", "--json", "--model", tiny_bundle)
    summary = json.loads(done.stdout)
    assert (summary["films"], summary["in_error"], summary["genres"]) == (3, 1, {"Romance": 1, "Horror": 1})
    assert list(summary["errors"].values()) == [1]
    assert summary["written"] == {"out": str(tmp_path / "o.csv"), "review": str(tmp_path / "r.csv")}


@pytest.mark.parametrize(
    ("given", "name"),
    [(["--compare"], "o.compare.csv"), (["--compare", "mine.csv"], "mine.csv"), (["--compare=x.tsv"], "x.tsv")],
)
def test_compare_takes_a_file_or_none(
    given: list[str], name: str, films: Path, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(films, "--out", "o.csv", *given, "--model", tiny_bundle).returncode == 3
    assert "Comedy" in (tmp_path / name).read_text(encoding="utf-8").splitlines()[1]


def test_resume_does_nothing_if_the_output_is_finished(films: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    call = [films, "--out", tmp_path / "o.csv", "--model", tiny_bundle, "--resume"]
    assert run(*call).returncode == 3
    before = (tmp_path / "o.csv").stat().st_mtime_ns
    done = run(*call)
    assert (done.returncode, done.stdout) == (0, b"")
    assert (
        done.stderr.decode() == f"{tmp_path / 'o.csv'} is finished already; nothing to do (--overwrite tags it again)\n"
    )
    assert (tmp_path / "o.csv").stat().st_mtime_ns == before
    assert json.loads(run(*call, "--json").stdout)["films"] == 0


def test_ctrl_c_says_what_is_kept_and_how_to_resume(tmp_path: Path, tiny_bundle: Path) -> None:
    path = tmp_path / "films.csv"
    path.write_text("id,plot\n" + "".join(f"{n},love in the city\n" for n in range(60_000)), encoding="utf-8")
    command = [sys.executable, "-m", "mmgcs", "tag", str(path), "--out", str(tmp_path / "o.jsonl"), "--quiet"]
    with subprocess.Popen([*command, "--model", str(tiny_bundle)], stderr=subprocess.PIPE) as process:
        while not (tmp_path / "o.jsonl.partial" / "run.json").exists():
            time.sleep(0.01)
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert process.returncode == 130
    assert (
        f"what was tagged is kept in {tmp_path / 'o.jsonl.partial'}; run the same command with --resume"
        in told.decode()
    )


FROM = "--from sqlite:///films.db"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("films.csv --out - --json", "--json needs a file"),
        ("films.csv --out o.csv --only-missing --compare", "has nothing to compare with --only-missing"),
        ("films.csv --out - --compare", "--compare needs a file when --out is -"),
        ("films.csv --out o.csv --into t", "--into needs a database; add --from"),
        ("films.csv --out o.csv --workers 3", "--workers needs a cluster; add --engine ray"),
        ("films.csv --out o.csv --enrich-cache x", "--enrich-cache needs --enrich"),
        ("films.csv --out o.csv --out-format csv", "--out-format is the format of standard output"),
        ("films.csv --out - --out-format xlsx", "no output format '.xlsx'"),
        ("films.csv --out o.csv --min-confidence 2", "--min-confidence"),
        ("films.csv --out o.csv --review films.csv --overwrite", "is the table of films itself"),
        ("films.csv --out s3://bucket/o.csv", "is not a file on this machine; only --engine ray writes elsewhere"),
        ("--quiet", "give FILMS and --out; or --from and --table"),
        (FROM, "--from needs --table"),
        (f"{FROM} --table films --out x.csv", "--from tags a database; leave out --out"),
        (f"films.csv {FROM} --table films", "leave out FILMS"),
        (f"{FROM} --table films --only-missing", "--from does not support --only-missing"),
        ("- --out tagged --engine ray", "--engine ray reads and writes folders, not stdin"),
        ("films.csv --out tagged --engine ray --review r.csv", "--engine ray does not support --review; leave it out"),
        (f"{FROM} --table films --engine ray", "--engine ray does not support --from; leave it out"),
    ],
)
def test_a_wrong_call_is_refused_in_one_line(
    call: str,
    message: str,
    films: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tag", *call.split()]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert films.read_text(encoding="utf-8") == TABLE


SHOWN = rb"films .*\d/\d+.*0:\d\d:\d\d.*\d a second, 0 in error"


def test_progress_in_a_terminal_shows_the_rate_and_the_time_left(tmp_path: Path, tiny_bundle: Path) -> None:
    path = tmp_path / "films.csv"
    path.write_text("id,plot\n" + "".join(f"{n},love in the city\n" for n in range(60_000)), encoding="utf-8")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mmgcs", "tag", str(path), "--out", str(tmp_path / "o.jsonl")]
    with subprocess.Popen([*command, "--model", str(tiny_bundle)], stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while not re.search(SHOWN, shown):
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the terminal closed with the process
                break
        process.kill()
    os.close(ours)
    assert re.search(SHOWN, shown), shown


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(films: Path, tiny_bundle: Path) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        shutil.copy(films, folder)
        shutil.copytree(tiny_bundle, folder / "model")
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        code = (
            "import os, sys, filelock, rich.progress, mmgcs.cli\n"
            "mmgcs.cli.main([*sys.argv[1:], '--out', '-', '--quiet'])\n"  # imports what is imported late
            "if os.getuid() == 0: os.seteuid(65534)\n"  # permissions do not bind root
            "sys.exit(mmgcs.cli.main(sys.argv[1:]))"
        )
        args = ["tag", folder / "films.csv", "--out", folder / "o.csv", "--model", folder / "model"]
        done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
        assert done.returncode == 2, done.stderr
        assert "(Permission denied); choose another --out" in done.stderr
        assert done.stderr.count("\n") == 1
    finally:
        for path in [folder, folder / "model"]:
            path.chmod(0o755)
        shutil.rmtree(folder)
