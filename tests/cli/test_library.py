from __future__ import annotations

import contextlib
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmgcs.bundle import CONFIG, seal
from mmgcs.cli import main
from mmgcs.library.nfo import read_nfo
from mmgcs.library.scan import find_films

SAMPLES = Path(__file__).parent.parent / "data" / "nfo"
HORROR = "A vampire count and a ghost haunt the monster of a haunted village, a zombie by night."
RUN = [sys.executable, "-c", "import sys; from mmgcs.cli import main; sys.exit(main())", "library"]


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of `mmgcs library`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["library", *map(str, arguments)])
    return status, out.getvalue(), err.getvalue()


def run_json(*arguments: str | Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(run(*arguments, "--json")[1])
    return value


def content_of(root: Path) -> dict[str, bytes]:
    """Every file of the library but the state folder's."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".mmgcs" not in path.parts
    }


def film(root: Path, name: str, inside: str = "", plot: str = HORROR) -> Path:
    path = root / name / "movie.nfo"
    path.parent.mkdir(parents=True)
    path.write_text(f"<movie>\n  <title>A film</title>\n  <plot>{plot}</plot>{inside}\n</movie>\n", encoding="utf-8")
    return path


@pytest.fixture
def library(tmp_path: Path) -> Path:
    root = tmp_path / "films"
    film(root, "Missing")
    film(root, "Has", "\n  <genre>War / Drama</genre>")
    film(root, "Locked", "<lockdata>true</lockdata>")
    film(root, "Field", "<lockedfields>Name|Genres</lockedfields>")
    film(root, "Empty", plot="")
    film(root, "Broken").write_bytes(b"<movie><title>")
    film(root, "Link").write_bytes(b"https://www.themoviedb.org/movie/1\n")
    (root / "Series").mkdir()
    (root / "Series" / "tvshow.nfo").write_bytes(b"<tvshow/>")
    (root / "No Nfo (1999)").mkdir()
    (root / "No Nfo (1999)" / "film.mkv").touch()
    Image.new("RGB", (40, 60), "red").save(root / "No Nfo (1999)" / "poster.jpg")
    return root


def statuses(report: dict[str, Any], root: Path) -> dict[str, str]:
    return {Path(film["path"]).relative_to(root).parts[0]: film["status"] for film in report["films"]}


def test_scan_says_what_films_have_and_what_would_change(library: Path, tiny_bundle: Path) -> None:
    before = content_of(library)
    report = run_json("scan", library, "--model", tiny_bundle, "--min-confidence", "0")
    assert statuses(report, library) == {
        "Broken": "error",
        "Empty": "empty",
        "Field": "locked",
        "Has": "has genres",
        "Link": "skipped",
        "Locked": "locked",
        "Missing": "change",
        "No Nfo (1999)": "no nfo",
    }
    films = {Path(film["path"]).relative_to(library).parts[0]: film for film in report["films"]}
    assert "Horror" in films["Missing"]["new_genres"]
    assert films["Has"]["genres"] == ["War", "Drama"]
    assert films["No Nfo (1999)"]["poster"].endswith("poster.jpg")
    assert (films["Missing"]["has_plot"], films["Empty"]["has_plot"]) == (True, False)
    assert sum(report["summary"].values()) == 8
    assert content_of(library) == before
    assert not (library / ".mmgcs").exists()


def test_scan_without_prediction_needs_no_model(library: Path) -> None:
    status, out, _ = run("scan", library, "--no-predict", "--model", library / "nothing")
    assert status == 3  # one film is broken
    assert "8 films: 7 with nfo, 4 with plot, 1 with poster, 1 with genres" in out
    assert "Missing/movie.nfo: no genres" in out
    assert "Has/movie.nfo: War, Drama (has genres)" in out
    assert out.splitlines()[-1].startswith("8 films: 1 empty, 1 error, 1 has genres")


def test_tag_is_a_dry_run_until_apply(library: Path, tiny_bundle: Path) -> None:
    before = content_of(library)
    status, out, _ = run("tag", library, "--model", tiny_bundle, "--min-confidence", "0")
    assert status == 3
    assert "nothing was written" in out
    assert content_of(library) == before
    assert not (library / ".mmgcs").exists()


def test_tag_and_undo_bring_the_library_back_byte_for_byte(library: Path, tiny_bundle: Path) -> None:
    before = content_of(library)
    times = {path: path.stat().st_mtime_ns for path in library.rglob("*.nfo")}
    options = ("--model", tiny_bundle, "--min-confidence", "0", "--replace", "--create-nfo", "--apply")
    run("tag", library, *options)
    after = content_of(library)
    changed = {name for name in after if after[name] != before.get(name)}
    assert {"Missing/movie.nfo", "Has/movie.nfo"} <= changed
    assert not {"Locked/movie.nfo", "Field/movie.nfo", "Broken/movie.nfo", "Link/movie.nfo"} & changed
    assert "War" in read_nfo(after["Has/movie.nfo"]).genres  # the model cannot judge it
    assert run("undo", library)[0] == 0
    assert content_of(library) == before
    assert {path: path.stat().st_mtime_ns for path in library.rglob("*.nfo")} == times
    assert run("undo", library) == (0, "nothing to undo\n", "")


def test_tagging_twice_changes_nothing_the_second_time(library: Path, tiny_bundle: Path) -> None:
    options = ("--model", tiny_bundle, "--min-confidence", "0", "--add", "--apply")
    first = run_json("tag", library, *options)
    after = content_of(library)
    second = run_json("tag", library, *options)
    assert first["summary"]["change"] == 2
    assert "change" not in second["summary"]
    assert content_of(library) == after


@pytest.fixture
def eager_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with thresholds so low that it names genres for any plot."""
    path = shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("eager") / "bundle")
    config = json.loads((path / CONFIG).read_text())
    for decision in config["decisions"].values():
        decision["thresholds"] = [0.1] * len(config["genres"])
    (path / CONFIG).write_text(json.dumps(config))
    seal(path)
    return path


def test_files_of_every_tool_change_in_nothing_but_their_genres(tmp_path: Path, eager_bundle: Path) -> None:
    for sample in SAMPLES.glob("*.nfo"):
        (tmp_path / sample.stem).mkdir()
        shutil.copy(sample, tmp_path / sample.stem / "movie.nfo")
    report = run_json("tag", tmp_path, "--model", eager_bundle, "--min-confidence", "0", "--replace", "--apply")
    assert report["summary"]["change"] >= 5
    for entry in report["films"]:
        path = Path(entry["path"])
        original = (SAMPLES / f"{path.parent.name}.nfo").read_bytes()
        if entry["status"] == "change":
            assert list(read_nfo(path.read_bytes()).genres) == entry["new_genres"]
            assert strip_genres(path.read_bytes()) == strip_genres(original)
        else:
            assert path.read_bytes() == original
    run("undo", tmp_path)
    for path in tmp_path.glob("*/movie.nfo"):
        assert path.read_bytes() == (SAMPLES / f"{path.parent.name}.nfo").read_bytes()


def strip_genres(content: bytes) -> bytes:
    return re.sub(rb"\s*<genre>[^<]*</genre>", b"", content)


def test_the_users_spelling_is_written(library: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.json"
    words.write_text('{"Horror": "Grusel"}')
    options = ("--model", tiny_bundle, "--min-confidence", "0", "--vocabulary", words, "--apply")
    run("tag", library, *options)
    assert "Grusel" in read_nfo((library / "Missing" / "movie.nfo").read_bytes()).genres


def test_an_unsure_prediction_is_not_written(library: Path, tiny_bundle: Path) -> None:
    before = content_of(library)
    report = run_json("tag", library, "--model", tiny_bundle, "--min-confidence", "1", "--apply")
    assert report["summary"]["unsure"] == 1
    assert content_of(library) == before


def test_a_blank_poster_is_unsure_in_a_library_as_in_a_table_whatever_confidence_is_asked_for(tmp_path: Path) -> None:
    root, table, out = tmp_path / "films", tmp_path / "films.csv", tmp_path / "out.jsonl"
    (root / "Blank (1999)").mkdir(parents=True)
    (root / "Blank (1999)" / "film.mkv").touch()
    Image.new("RGB", (300, 450), "white").save(root / "Blank (1999)" / "poster.png")
    report = run_json("tag", root, "--create-nfo", "--min-confidence", "0.1")
    assert [found["status"] for found in report["films"]] == ["unsure"]
    table.write_text("id,poster\n1,Blank (1999)/poster.png\n", encoding="utf-8")
    call = ["tag", table, "--posters", root, "--out", out, "--min-confidence", "0.1", "--quiet"]
    assert main([*map(str, call)]) == 0
    assert json.loads(out.read_text(encoding="utf-8"))["genres"] == []


def test_a_film_with_another_name_elsewhere_is_told_before_it_is_parted(library: Path, tiny_bundle: Path) -> None:
    path, other = library / "Missing" / "movie.nfo", library.parent / "other.nfo"
    other.hardlink_to(path)
    before = other.read_bytes()
    said = "hard-linked: its other names (1) keep the old content, as a file of their own"
    out = run("tag", library, "--model", tiny_bundle, "--min-confidence", "0", "--apply")[1]
    (line,) = [line for line in out.splitlines() if "Missing" in line]
    assert line.endswith(said)
    assert out.count("hard-linked") == 1
    assert (other.read_bytes(), path.read_bytes() == before) == (before, False)


def test_undo_leaves_what_others_changed_and_says_so(library: Path, tiny_bundle: Path) -> None:
    run("tag", library, "--model", tiny_bundle, "--min-confidence", "0", "--apply")
    path = library / "Missing" / "movie.nfo"
    path.write_bytes(b"<movie>mine</movie>")
    status, out, _ = run("undo", library)
    assert status == 3
    assert out.count("Missing/movie.nfo") == 1
    assert path.read_bytes() == b"<movie>mine</movie>"
    assert run("undo", library, "--force")[0] == 0
    assert HORROR.encode() in path.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["scan", "nowhere", "--no-predict"], "there is no folder"),
        (["undo", "nowhere"], "there is no folder"),
        (["undo", "."], "nothing was tagged"),
        (["tag", ".", "--add", "--replace"], "exclude each other"),
        (["scan", ".", "--no-predict", "--vocabulary", "nonsense"], "there is no vocabulary"),
        (["tag", ".", "--model", "nowhere"], "no bundle"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, line = run(*arguments)
    assert (status, out) == (2, "")
    assert says in line
    assert line.count("\n") == 1


def test_names_with_odd_characters_are_listed_on_one_line(tmp_path: Path) -> None:
    film(tmp_path, "two\nlines \x1b[31m")
    film(tmp_path, os.fsdecode(b"caf\xe9"))
    status, out, _ = run("scan", tmp_path, "--no-predict")
    assert status == 0
    assert len(out.splitlines()) == 6
    assert len(run_json("scan", tmp_path, "--no-predict")["films"]) == 2


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder outside root's private ones, and a user whom permissions bind."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o777)
    run("undo", root)  # what is imported late is imported before the rights are gone
    yield root
    if os.getuid() == 0:
        os.seteuid(0)
    for path in [root, *root.rglob("*")]:
        if path.is_dir():
            path.chmod(0o777)
    shutil.rmtree(root)


def drop_rights() -> None:
    if os.getuid() == 0:
        os.seteuid(65534)


def test_a_library_that_cannot_be_written_is_refused_at_once(as_nobody: Path, tiny_bundle: Path) -> None:
    film(as_nobody, "A")
    before = content_of(as_nobody)
    run_json("scan", as_nobody, "--model", tiny_bundle)
    import mmgcs

    model = shutil.copytree(tiny_bundle, as_nobody.parent / f"{as_nobody.name}-model")
    try:
        mmgcs.load(model)
        as_nobody.chmod(0o555)
        drop_rights()
        status, _, line = run("tag", as_nobody, "--model", model, "--min-confidence", "0", "--apply")
        assert status == 2
        assert "without copies nothing is changed" in line
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        shutil.rmtree(model)
    assert content_of(as_nobody) == before


def test_a_folder_that_cannot_be_read_or_written_is_reported_once(as_nobody: Path, tiny_bundle: Path) -> None:
    for name in ("A", "Fixed", "Hidden"):
        film(as_nobody, name)
    model = shutil.copytree(tiny_bundle, as_nobody.parent / f"{as_nobody.name}-model")
    before = content_of(as_nobody)
    run_json("tag", as_nobody, "--model", model)
    (as_nobody / "A").chmod(0o777)
    (as_nobody / "Fixed").chmod(0o555)
    (as_nobody / "Hidden").chmod(0o000)
    try:
        drop_rights()
        report = run_json("tag", as_nobody, "--model", model, "--min-confidence", "0", "--apply")
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        shutil.rmtree(model)
    assert statuses(report, as_nobody) == {"A": "change", "Fixed": "error", "Hidden": "error"}
    notes = {Path(film["path"]).relative_to(as_nobody).parts[0]: film["note"] for film in report["films"]}
    assert "its folder cannot be written" in notes["Fixed"]
    assert "cannot be listed (Permission denied)" in notes["Hidden"]
    after = content_of(as_nobody)
    assert {name for name in after if after[name] != before[name]} == {"A/movie.nfo"}


def test_a_disk_without_space_leaves_every_file_as_it_was(tmp_path: Path, tiny_bundle: Path) -> None:
    for number in range(12):
        film(tmp_path, f"{number:02}", plot=HORROR)
    before = content_of(tmp_path)

    def no_space() -> None:
        # The journal passes this limit after a few films, in the middle of a line.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    command = [*RUN, "tag", str(tmp_path), "--model", str(tiny_bundle), "--min-confidence", "0", "--apply"]
    result = subprocess.run(command, preexec_fn=no_space, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    after = content_of(tmp_path)
    changed = [name for name in after if after[name] != before[name]]
    assert 0 < len(changed) < 12
    assert set(after) == set(before)
    run_json("tag", tmp_path, "--model", tiny_bundle, "--min-confidence", "0", "--apply")
    assert all(read_nfo(content).genres for content in content_of(tmp_path).values())
    assert run("undo", tmp_path)[0] == 0
    assert content_of(tmp_path) == before


@pytest.mark.parametrize("lines", [1, 40])
def test_kill_9_leaves_every_file_whole_and_undo_brings_all_back(tmp_path: Path, tiny_bundle: Path, lines: int) -> None:
    for number in range(80):
        film(tmp_path, f"{number:03}")
    before = content_of(tmp_path)
    command = [*RUN, "tag", str(tmp_path), "--model", str(tiny_bundle), "--min-confidence", "0", "--apply"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    journal = tmp_path / ".mmgcs" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if journal.exists() and journal.read_bytes().count(b"\n") >= lines:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it was not yet done
    for name, content in before.items():
        now = (tmp_path / name).read_bytes()
        assert now == content or read_nfo(now).genres
    assert len(list(find_films(tmp_path))) == 80
    assert run("undo", tmp_path)[0] == 0
    assert content_of(tmp_path) == before


def test_a_killed_run_is_ended_by_the_next(tmp_path: Path, tiny_bundle: Path) -> None:
    for number in range(5):
        film(tmp_path, str(number))
    before = content_of(tmp_path)
    options = ("--model", tiny_bundle, "--min-confidence", "0", "--apply")
    run("tag", tmp_path, *options)
    (tmp_path / "3" / "movie.nfo").write_bytes(before["3/movie.nfo"])  # as if killed before it was written
    (tmp_path / "3" / ".movie.nfo.x1.part").write_bytes(b"<mov")
    report = run_json("tag", tmp_path, *options)
    assert report["summary"] == {"has genres": 4, "change": 1}
    assert run("undo", tmp_path)[0] == 0
    assert content_of(tmp_path) == before


def test_a_film_with_neither_plot_nor_poster_is_said_to_give_nothing_to_read(tmp_path: Path, tiny_bundle: Path) -> None:
    film = tmp_path / "films" / "Heat (1995)"
    film.mkdir(parents=True)
    (film / "heat.mkv").touch()
    for command in (["scan"], ["tag"], ["tag", "--create-nfo"]):
        status, out, _ = run(command[0], tmp_path / "films", *command[1:], "--model", tiny_bundle)
        assert status == 0
        assert "Heat (1995): empty: nothing to read: no plot and no poster" in out
        assert "1 film: 1 empty" in out


@pytest.mark.parametrize("command", [["scan"], ["tag"], ["scan", "--json"]], ids=" ".join)
def test_a_folder_without_films_is_told_what_a_film_looks_like(
    command: list[str], tmp_path: Path, tiny_bundle: Path
) -> None:
    (tmp_path / "poster.jpg").touch()
    status, _, err = run(command[0], tmp_path, *command[1:], "--model", tiny_bundle)
    assert status == 0
    assert f"no film was found in {tmp_path}: a film is a video or an .nfo, such as 'Title (Year)/film.mkv'" in err


def test_a_guess_is_shown_with_the_confidence_that_it_would_need(library: Path, tiny_bundle: Path) -> None:
    for command in ("scan", "tag"):
        _, out, _ = run(command, library, "--model", tiny_bundle, "--min-confidence", "1")
        assert re.search(r"Missing/movie\.nfo: unsure: perhaps .*Horror.* \(0\.\d\d\)", out)
