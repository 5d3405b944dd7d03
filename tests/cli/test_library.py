"""`mmgcs library`: a dry run by default, exact undo, and reviews that a person edits."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
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
from http_server import Server, send
from PIL import Image

from mmgcs.bundle import CONFIG, seal
from mmgcs.cli import main
from mmgcs.library.nfo import read_nfo
from mmgcs.library.scan import find_films

HORROR = "A vampire count and a ghost haunt the monster of a haunted village, a zombie by night."
RUN = [sys.executable, "-c", "import sys; from mmgcs.cli import main; sys.exit(main())", "library"]


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Run `mmgcs library`; return its exit status, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["library", *map(str, arguments)])
    return status, out.getvalue(), err.getvalue()


def run_json(*arguments: str | Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(run(*arguments, "--json")[1])
    return value


def content_of(root: Path) -> dict[str, bytes]:
    """Return the library's files, except those in the state folder."""
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


def by_folder(report: dict[str, Any], root: Path) -> dict[str, dict[str, Any]]:
    """Return a report's films by the names of their folders."""
    return {Path(film["path"]).relative_to(root).parts[0]: film for film in report["films"]}


def statuses(report: dict[str, Any], root: Path) -> dict[str, str]:
    return {name: film["status"] for name, film in by_folder(report, root).items()}


def test_scan_reports_what_films_have_and_what_would_change(library: Path, tiny_bundle: Path) -> None:
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
    films = by_folder(report, library)
    assert "Horror" in films["Missing"]["new_genres"]
    assert films["Has"]["genres"] == ["War", "Drama"]
    assert films["Empty"]["reason"] == "no plot and no poster"
    assert report["reasons"]["no plot and no poster"] == 1
    assert report["added"]["Horror"] == 1
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
    assert "8 films: 1 error, 1 has genres, 2 locked, 3 not predicted, 1 skipped" in out


def test_undo_restores_the_library_byte_for_byte(library: Path, tiny_bundle: Path) -> None:
    before = content_of(library)
    times = {path: path.stat().st_mtime_ns for path in library.rglob("*.nfo")}
    options = ("--model", tiny_bundle, "--min-confidence", "0", "--replace", "--create-nfo")
    status, out, _ = run("tag", library, *options)
    assert (status, "nothing was written" in out) == (3, True)  # one film is broken
    assert content_of(library) == before
    assert not (library / ".mmgcs").exists()
    run("tag", library, *options, "--apply")
    after = content_of(library)
    assert "change" not in run_json("tag", library, *options, "--apply")["summary"]  # the second time
    assert content_of(library) == after
    changed = {name for name in after if after[name] != before.get(name)}
    assert {"Missing/movie.nfo", "Has/movie.nfo"} <= changed
    assert not {"Locked/movie.nfo", "Field/movie.nfo", "Broken/movie.nfo", "Link/movie.nfo"} & changed
    assert "War" in read_nfo(after["Has/movie.nfo"]).genres  # the model cannot judge it
    assert run("undo", library)[0] == 0
    assert content_of(library) == before
    assert {path: path.stat().st_mtime_ns for path in library.rglob("*.nfo")} == times
    assert run("undo", library) == (0, "nothing to undo\n", "")


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


def test_an_unsure_prediction_is_not_written_and_the_reason_is_shown(library: Path, tiny_bundle: Path) -> None:
    before = content_of(library)
    report = run_json("tag", library, "--model", tiny_bundle, "--min-confidence", "1", "--apply")
    films = by_folder(report, library)
    assert (films["Missing"]["status"], films["Missing"]["reason"]) == ("unsure", "confidence too low")
    assert "Horror" in films["Missing"]["proposed"]
    other = films["No Nfo (1999)"]
    assert (other["status"], "--create-nfo" in other["note"]) == ("unsure", False)  # which would not help
    out = run("tag", library, "--model", tiny_bundle, "--min-confidence", "1")[1]
    assert re.search(r"Missing/movie\.nfo: unsure: confidence too low; perhaps .*Horror.* \(0\.\d\d\)", out)
    assert "Reasons: " in out
    assert content_of(library) == before


def test_a_blank_poster_is_unsure_with_any_min_confidence_in_a_library_and_a_table(tmp_path: Path) -> None:
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


def test_advised_commands_can_be_pasted_and_remind_of_the_options(tmp_path: Path, tiny_bundle: Path) -> None:
    root, out = tmp_path / "My films", tmp_path / "my review.csv"
    film(root, "A")
    shown, said = run("scan", root, "--model", tiny_bundle, "--min-confidence", "0", "--out", out)[1:]
    assert f"run mmgcs library tag '{root}' --from '{out}' --apply (with the same options)" in said
    shown = run("scan", root, "--model", tiny_bundle, "--min-confidence", "0")[1]
    assert f"mmgcs library tag '{root}' --apply (with the same options) writes the 1 change" in shown
    shown = run("scan", root, "--min-confidence", "0", "--save")[1]
    assert f"mmgcs library tag '{root}' --apply writes the 1 change" in shown
    assert f"mmgcs library undo '{root}' restores every file" in run("tag", root, "--apply")[1]


def test_the_dry_run_reports_hard_links(library: Path, tiny_bundle: Path) -> None:
    path, other = library / "Missing" / "movie.nfo", library.parent / "other.nfo"
    other.hardlink_to(path)
    before = other.read_bytes()
    said = "hard-linked: only this copy changes"
    out = run("tag", library, "--model", tiny_bundle, "--min-confidence", "0", "--apply")[1]
    (line,) = [line for line in out.splitlines() if "Missing" in line]
    assert line.endswith(said)
    assert out.count("hard-linked") == 1
    assert (other.read_bytes(), path.read_bytes() == before) == (before, False)


def test_undo_leaves_files_that_another_program_changed(library: Path, tiny_bundle: Path) -> None:
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
        (["scan", ".", "--no-predict", "--vocabulary", "nonsense"], "no genre names"),
        (["tag", ".", "--model", "nowhere"], "no bundle"),
    ],
)
def test_a_wrong_call_is_explained_in_one_line(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, line = run(*arguments)
    assert (status, out) == (2, "")
    assert says in line
    assert line.count("\n") == 1


def test_a_name_with_odd_characters_takes_one_line(tmp_path: Path) -> None:
    film(tmp_path, "two\nlines \x1b[31m \r \N{RIGHT-TO-LEFT OVERRIDE}")
    film(tmp_path, os.fsdecode(b"caf\xe9"))
    status, out, _ = run("scan", tmp_path, "--no-predict")
    assert status == 0
    assert len(out.splitlines()) == 6
    assert all(line.isprintable() for line in out.splitlines())
    assert len(run_json("scan", tmp_path, "--no-predict")["films"]) == 2


@pytest.fixture
def bound(tiny_bundle: Path) -> Iterator[tuple[Path, Path]]:
    """A library and a model outside root's private folders."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        root = Path(folder, "films")
        root.mkdir(mode=0o755)
        yield root, shutil.copytree(tiny_bundle, Path(folder, "model"))
        for path in [root, *root.rglob("*")]:
            path.chmod(0o755)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Run as a user who is bound by permissions."""
    root = os.getuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_unreadable_and_read_only_files_are_reported_and_the_rest_is_tagged(bound: tuple[Path, Path]) -> None:
    root, model = bound
    for name in ("A", "Fixed", "Hidden"):
        film(root, name)
    before = content_of(root)
    options = ("--model", model, "--min-confidence", "0", "--apply")
    run("undo", root)
    run("scan", root, "--model", model)  # imports everything before the permissions are lost
    with as_nobody():
        status, _, line = run("tag", root, *options)
    assert (status, "nothing is changed without backups" in line) == (2, True)
    assert content_of(root) == before
    for name, mode in {"": 0o777, "A": 0o777, "Hidden": 0o000}.items():
        (root / name).chmod(mode)
    with as_nobody():
        report = run_json("tag", root, *options)
    assert statuses(report, root) == {"A": "change", "Fixed": "error", "Hidden": "error"}
    films = by_folder(report, root)
    assert "cannot be written (Permission denied)" in films["Fixed"]["note"]
    assert "cannot be listed (Permission denied)" in films["Hidden"]["note"]
    (root / "Hidden").chmod(0o755)
    after = content_of(root)
    assert {name for name in after if after[name] != before[name]} == {"A/movie.nfo"}


@pytest.mark.slow
def test_kill_9_leaves_every_file_complete_and_undo_restores_all(tmp_path: Path, tiny_bundle: Path) -> None:
    """A real signal, once; test_crashes.py tries a death at every write."""
    for number in range(80):
        film(tmp_path, f"{number:03}")
    before = content_of(tmp_path)
    command = [*RUN, "tag", str(tmp_path), "--model", str(tiny_bundle), "--min-confidence", "0", "--apply"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    journal = tmp_path / ".mmgcs" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if journal.exists() and journal.read_bytes().count(b"\n") >= 11:
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


def test_for_a_folder_without_films_the_message_explains_what_a_film_is(tmp_path: Path, tiny_bundle: Path) -> None:
    for options in (["--no-predict"], ["--model", tiny_bundle, "--json"]):
        status, _, err = run("scan", tmp_path, *options)
        assert status == 0
        assert f"no film was found in {tmp_path}: a film is a video or an .nfo, such as 'Title (Year)/film.mkv'" in err


def eager(library: Path, bundle: Path, *options: str | Path) -> dict[str, Any]:
    """Scan with any confidence; return the films by the names of their folders."""
    return by_folder(run_json("scan", library, "--model", bundle, "--min-confidence", "0", *options), library)


def test_the_number_and_the_choice_of_genres_can_be_limited(library: Path, eager_bundle: Path) -> None:
    every = eager(library, eager_bundle)["Missing"]["proposed"]
    assert len(every) > 2
    assert eager(library, eager_bundle, "--max-genres", "1")["Missing"]["proposed"] == every[:1]
    assert eager(library, eager_bundle, "--exclude", f"{every[0]},Sci-Fi")["Missing"]["proposed"] == every[1:]
    both = eager(library, eager_bundle, "--exclude", every[0], "--max-genres", "1")
    assert both["Missing"]["proposed"] == every[1:2]
    status, _, err = run("scan", library, "--model", eager_bundle, "--exclude", "Horor", "--save")
    assert (status, "did you mean 'Horror'?" in err) == (2, True)
    assert not (library / ".mmgcs").exists()  # a wrong option is not saved


def test_existing_genres_change_only_with_add_or_replace_and_the_dry_run_explains(
    library: Path, tiny_bundle: Path
) -> None:
    film(library, "Unknown", "<genre>Unknown</genre>")
    film(library, "Noir", "<genre>Film-Noir</genre><genre>TV Movie</genre><genre>Mein</genre><genre>Music</genre>")
    by_hand = ["Film-Noir", "TV Movie", "Mein", "Music"]
    assert eager(library, tiny_bundle)["Noir"]["status"] == "has genres"
    assert eager(library, tiny_bundle)["Unknown"]["new_genres"][:1] == ["Horror"]  # a placeholder is no genre
    assert eager(library, tiny_bundle, "--add")["Noir"]["new_genres"][:5] == [*by_hand, "Horror"]
    assert eager(library, tiny_bundle, "--replace")["Noir"]["new_genres"][:4] == [*by_hand[:3], "Horror"]
    assert eager(library, tiny_bundle, "--replace", "--exclude", "Music")["Noir"]["new_genres"][:4] == by_hand
    out = run("tag", library, "--model", tiny_bundle, "--min-confidence", "0", "--replace")[1]
    assert "Genres to remove: " in out
    assert "--replace removes genres that the model knows and does not predict, even ones entered by hand" in out
    out = run("tag", library, "--model", tiny_bundle, "--min-confidence", "0", "--add")[1]
    assert "--add keeps the genres that a film has" in out


def test_a_misspelt_genre_is_kept_and_reported_once(tmp_path: Path) -> None:
    for name in ("One", "Two"):
        film(tmp_path, name, "<genre>Horor</genre><genre>Krimi</genre><genre>Kaiju</genre>")
    out = run("scan", tmp_path, "--no-predict")[1]
    assert out.count("Perhaps misspelt, and kept: Horor (Horror?)\n") == 1


def test_the_dry_run_reports_what_cannot_be_written(tmp_path: Path, tiny_bundle: Path) -> None:
    film(tmp_path, "A", "<genres>Drama, War</genres>")
    report = eager(tmp_path, tiny_bundle, "--add")
    assert (report["A"]["status"], report["A"]["reason"][:18]) == ("error", "its <genres> holds")


def test_tags_are_written_instead_of_genres(library: Path, eager_bundle: Path) -> None:
    before = content_of(library)
    long = "a tag of more than eighty characters, which no list of genres would be, but which somebody may have"
    film(library, "Tagged", "<tag>4K</tag>")
    film(library, "Long", f"<tag>{long}</tag>")
    assert eager(library, eager_bundle, "--as", "tag", "--replace")["Long"]["new_genres"][:1] == [long]
    options = ("--model", eager_bundle, "--min-confidence", "0", "--as", "tag", "--apply")
    run("tag", library, *options)
    nfo = read_nfo((library / "Tagged" / "movie.nfo").read_bytes())
    assert (nfo.genres, nfo.tags[0], "Horror" in nfo.tags) == ((), "4K", True)
    assert "change" not in run_json("tag", library, *options)["summary"]
    run("undo", library)
    now = content_of(library)
    assert {name: now[name] for name in before} == before


def review_of(library: Path, bundle: Path, *options: str) -> tuple[Path, list[list[str]]]:
    path = library.parent / "review.csv"
    run("scan", library, "--model", bundle, "--out", path, "--overwrite", *options)
    return path, list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))


def save_as(path: Path, rows: list[list[str]], encoding: str, delimiter: str) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter).writerows(rows)
    path.write_bytes(buffer.getvalue().encode(encoding))


def save_as_workbook(path: Path) -> Path:
    """Open a CSV file in LibreOffice and save it as a workbook. Returns that file."""
    office = shutil.which("soffice")
    if office is None:
        pytest.skip("LibreOffice is not installed")
    pytest.importorskip("fastexcel")
    command = [office, f"-env:UserInstallation={(path.parent / 'office').as_uri()}", "--headless"]
    command += ["--infilter=Text - txt - csv (StarCalc):44,34,76,1", "--convert-to", "xlsx"]
    subprocess.run([*command, "--outdir", path.parent, path], check=True, capture_output=True, timeout=300)
    return path.with_suffix(".xlsx")


@pytest.mark.parametrize(
    "saved", [("utf-16", "\t"), ("cp1252", ";"), pytest.param(None, marks=pytest.mark.slow, id="a workbook")]
)
def test_a_review_edited_in_a_spreadsheet_is_applied_exactly(
    library: Path, tiny_bundle: Path, saved: tuple[str, str] | None
) -> None:
    for name in ("Bäcker (2002)", "=SUM(1)", "A, B; C", "1917", " Space"):
        film(library, name)
    path, rows = review_of(library, tiny_bundle, "--min-confidence", "0")
    before = content_of(library)
    header, *films = rows
    place = {name: number for number, name in enumerate(header)}
    decisions = {"Missing": "accept", "Bäcker (2002)": "Komödie, Film-Noir", "Has": "Western", "Locked": "Drama"}
    decisions |= {"'=SUM(1)": "skip", "A, B; C": "Action", "1917": "War", " Space": "Drama"}
    assert {row[place["path"]]: row[place["decision"]] for row in films}["Missing/movie.nfo"] == "accept"
    for row in films:
        row[place["decision"]] = decisions.get(row[place["path"]].removesuffix("/movie.nfo"), "")
    save_as(path, rows, *(saved or ("utf-8-sig", ",")))
    if saved is None:
        path = save_as_workbook(path)
    dry = run_json("tag", library, "--from", path)
    assert (content_of(library), dry["summary"]["change"]) == (before, 6)
    report = run_json("tag", library, "--from", path, "--apply")
    after = content_of(library)
    changed = {name: read_nfo(after[name]).genres for name in after if after[name] != before[name]}
    proposed = next(row[place["proposed"]] for row in films if row[place["path"]] == "Missing/movie.nfo")
    assert changed == {
        "Missing/movie.nfo": tuple(proposed.split(", ")),
        "Bäcker (2002)/movie.nfo": ("Komödie", "Film-Noir"),
        "Has/movie.nfo": ("Western",),
        "A, B; C/movie.nfo": ("Action",),
        "1917/movie.nfo": ("War",),
        " Space/movie.nfo": ("Drama",),
    }
    assert statuses(report, library)["Locked"] == "locked"
    run("undo", library)
    assert content_of(library) == before


def test_a_tag_that_holds_a_comma_survives_a_review(tmp_path: Path, tiny_bundle: Path) -> None:
    root = tmp_path / "films"
    tags = ["24/7", "london, england"]
    for name in ("A", "B"):
        film(root, name, "".join(f"<tag>{tag}</tag>" for tag in tags))
    options = ("--as", "tag", "--min-confidence", "0")
    path, rows = review_of(root, tiny_bundle, *options)
    assert rows[1][-1] == "accept"
    rows[2][-1] = "london, england, New"
    save_as(path, rows, "utf-8", ",")
    films = by_folder(run_json("tag", root, "--from", path, *options), root)
    assert films["A"]["new_genres"][:3] == [*tags, "Horror"]
    assert films["B"]["new_genres"] == ["london, england", "New"]


def test_rows_that_cannot_be_applied_are_errors_and_the_others_are_applied(library: Path, tiny_bundle: Path) -> None:
    film(library, "Second")
    path, rows = review_of(library, tiny_bundle, "--min-confidence", "0")
    place = {name: number for number, name in enumerate(rows[0])}
    for row in rows[1:]:
        row[place["decision"]] = {"Missing": "acept", "Second": "Crime", "Has": "War"}.get(row[0].split("/")[0], "")
    rows.append(["Gone/movie.nfo", *[""] * (len(place) - 2), "Drama"])
    save_as(path, rows, "utf-8", ",")
    other = library / "Has" / "movie.nfo"
    other.write_bytes(other.read_bytes().replace(b"War", b"Western"))
    status, _, err = run("scan", library, "--model", tiny_bundle, "--out", path)
    assert (status, "--overwrite" in err) == (2, True)
    report = run_json("tag", library, "--from", path, "--apply")
    films = by_folder(report, library)
    assert "did you mean 'accept'?" in films["Missing"]["reason"]
    assert "its genres have changed since" in films["Has"]["reason"]
    assert "there is no such film in the library" in films["Gone"]["reason"]
    assert statuses(report, library)["Second"] == "change"
    assert run("tag", library, "--from", library / "Has" / "movie.nfo")[0] == 2
    save_as(path, [*rows, rows[-1]], "utf-8", ",")
    assert "name the same film; keep one of them" in run("tag", library, "--from", path)[2]


def test_options_are_saved_for_a_library_and_the_command_line_overrides_them(
    library: Path, eager_bundle: Path, tmp_path: Path
) -> None:
    words = tmp_path / "words.csv"
    words.write_text("Horror;Grusel\n", encoding="utf-8")
    kept = eager(library, eager_bundle, "--max-genres", "1", "--names", words, "--add", "--save")
    assert kept["Missing"]["new_genres"] == ["Grusel"]
    again = eager(library, eager_bundle)
    assert (again["Missing"]["new_genres"], again["Has"]["status"]) == (["Grusel"], "same")
    assert len(eager(library, eager_bundle, "--max-genres", "2")["Missing"]["new_genres"]) == 2
    assert eager(library, eager_bundle, "--only-missing")["Has"]["status"] == "has genres"
    settings = library / ".mmgcs" / "settings.toml"
    for text, says in (("mood = 1", "mood"), ("max_genres = 0", "max_genres"), ("x", "cannot")):
        settings.write_text(text, encoding="utf-8")
        status, _, err = run("scan", library, "--no-predict")
        assert status == 2
        assert says in err
        assert "settings.toml" in err


def test_one_film_or_one_run_is_undone(library: Path, tiny_bundle: Path) -> None:
    film(library, "Other (2001)")
    before = content_of(library)
    options = ("--model", tiny_bundle, "--min-confidence", "0", "--apply")
    run("tag", library, *options)
    first = content_of(library)
    film(library, "Third")
    run("tag", library, *options)
    runs = run_json("undo", library, "--list")["runs"]
    assert list(runs.values()) == [2, 1]
    assert run("undo", library, "--run", "last") == (0, "1 file: 1 restored\n", "")
    assert {**first, "Third/movie.nfo": b""} == {**content_of(library), "Third/movie.nfo": b""}
    assert run("undo", library, "--film", "Missing")[1] == "1 file: 1 restored\n"
    assert (library / "Missing" / "movie.nfo").read_bytes() == before["Missing/movie.nfo"]
    assert run("undo", library, "--film", library / "Other (2001)" / "movie.nfo")[1] == "1 file: 1 restored\n"
    assert {**content_of(library), "Third/movie.nfo": b""} == {**before, "Third/movie.nfo": b""}
    assert run("undo", library, "--film", "Missing")[0] == 2
    assert run("undo", library, "--run", "1999")[0] == 2


def test_a_missing_plot_is_looked_up_before_predicting(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film(tmp_path, "Looked up (1950)", '<uniqueid type="tmdb">603</uniqueid>', plot="N/A")
    server = Server()
    movie = json.dumps({"overview": HORROR, "title": "A film"})
    server.answers = {"/movie/603?language=en-US&api_key=key": send(movie.encode())}
    monkeypatch.setenv("TMDB_API_KEY", "key")
    monkeypatch.setenv("TMDB_API_URL", server.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    try:
        options = ("--model", tiny_bundle, "--min-confidence", "0")
        assert run_json("scan", tmp_path, *options)["films"][0]["status"] == "empty"
        report = run_json("scan", tmp_path, *options, "--enrich", "tmdb")
    finally:
        server.close()
    (found,) = report["films"]
    assert (found["status"], found["has_plot"]) == ("change", False)
    assert "the plot was looked up at TMDB" in found["note"]
