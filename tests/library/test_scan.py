from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmgcs.errors import UsageError
from mmgcs.library.scan import LibraryFilm, Place, find_films, read_film, split_name

FILM = b"<movie><title>A</title><plot>A plot.</plot></movie>"


def make(root: Path, *names: str) -> Path:
    """A library of files: an NFO holds a film, anything else a byte."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FILM if name.endswith(".nfo") else b"x")
    return root


def found(root: Path) -> dict[str, str | None]:
    """From each film's NFO, or the one it would get in brackets, to its poster, relative to the library."""
    return {shown(root, place): relative(root, place.poster) for place in find_films(root)}


def shown(root: Path, place: Place) -> str:
    return str(relative(root, place.nfo)) if place.nfo else f"[{relative(root, place.new_nfo)}]"


def relative(root: Path, path: Path | None) -> str | None:
    return path.relative_to(root).as_posix() if path else None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["A (1950)/movie.nfo", "A (1950)/poster.jpg"], {"A (1950)/movie.nfo": "A (1950)/poster.jpg"}),
        (["A (1950)/a.mkv", "A (1950)/a.nfo", "A (1950)/a-poster.png"], {"A (1950)/a.nfo": "A (1950)/a-poster.png"}),
        (["A (1950)/A.mkv", "A (1950)/FOLDER.JPG"], {"[A (1950)/movie.nfo]": "A (1950)/FOLDER.JPG"}),
        (["A/a.mkv", "A/a.nfo", "A/cover.webp", "A/movie.jpg"], {"A/a.nfo": "A/cover.webp"}),
        (["A/a.mkv", "A/a.nfo", "A/movie.tbn"], {"A/a.nfo": "A/movie.tbn"}),
        (["A/a.mkv", "A/a.nfo", "A/fanart.jpg"], {"A/a.nfo": None}),
        (["A/a-cd1.avi", "A/a-cd2.avi", "A/a.nfo"], {"A/a.nfo": None}),
        (["A/a-cd1.avi", "A/a-cd2.avi", "A/poster.jpg"], {"[A/movie.nfo]": "A/poster.jpg"}),
        (["A/A - 4k.mkv", "A/A - 1080p.mkv", "A/poster.jpg"], {"[A/movie.nfo]": "A/poster.jpg"}),
        (["A/a.mkv", "A/a-trailer.mkv", "A/sample.mkv"], {"[A/movie.nfo]": None}),
        (["A/a-trailer.mkv"], {}),
        (["A/The Big Short.mkv"], {"[A/movie.nfo]": None}),
        (["A/VIDEO_TS/VIDEO_TS.IFO", "A/poster.jpg"], {"[A/movie.nfo]": "A/poster.jpg"}),
        (["A/VIDEO_TS/VIDEO_TS.nfo", "A/poster.jpg"], {"A/VIDEO_TS/VIDEO_TS.nfo": "A/poster.jpg"}),
        (["A/BDMV/STREAM/0.m2ts", "A/movie.nfo"], {"A/movie.nfo": None}),
        (["b/c/d/A/movie.nfo", "b/c/d/E/movie.nfo"], {"b/c/d/A/movie.nfo": None, "b/c/d/E/movie.nfo": None}),
        (["A/poster.jpg", "A/readme.txt"], {}),
    ],
)
def test_a_film_in_its_own_folder_is_found(tmp_path: Path, files: list[str], expected: dict[str, str | None]) -> None:
    assert found(make(tmp_path, *files)) == expected


@pytest.mark.parametrize("start", [".", "..", "../Alien (1979)", "extras/.."])
def test_versions_are_one_film_from_whichever_folder_they_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    folder = make(tmp_path, "Alien (1979)/Alien (1979) - 4k.mkv", "Alien (1979)/Alien (1979) - BR.mkv") / "Alien (1979)"
    (folder / "extras").mkdir()
    monkeypatch.chdir(folder if start != ".." else folder / "extras")
    (film,) = map(read_film, find_films(Path(start)))
    assert (film.title, film.year) == ("Alien", 1979)
    assert film.place.new_nfo == Path(start) / "movie.nfo"


AT_THE_ROOT = """
import json, os, sys
from pathlib import Path
from mmgcs.library.scan import find_films
os.chroot(sys.argv[1])
os.chdir("/")
print(json.dumps([[place.name, str(place.new_nfo), place.poster] for place in find_films(Path(sys.argv[2]))]))
"""


@pytest.mark.skipif(not hasattr(os, "chroot") or os.geteuid() != 0, reason="only root can have another root folder")
@pytest.mark.parametrize("start", ["/", "."])
def test_films_at_the_root_of_a_disk_are_many(tmp_path: Path, start: str) -> None:
    make(tmp_path, "Alien (1979).mkv", "Brazil (1985).mkv", "poster.jpg")
    command = [sys.executable, "-c", AT_THE_ROOT, str(tmp_path), start]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    names = ("Alien (1979)", "Brazil (1985)")
    assert sorted(json.loads(done.stdout)) == [[name, str(Path(start) / f"{name}.nfo"), None] for name in names]


def test_films_side_by_side_have_posters_by_name_only(tmp_path: Path) -> None:
    make(tmp_path, "a.mkv", "a.nfo", "a-poster.jpg", "b.mkv", "b.nfo", "c.mkv", "c.jpg", "poster.jpg", "d-part1.avi")
    expected = {"a.nfo": "a-poster.jpg", "b.nfo": None, "[c.nfo]": "c.jpg", "[d.nfo]": None}
    assert found(tmp_path) == expected


def test_series_extras_hidden_and_marked_folders_are_passed_over(tmp_path: Path) -> None:
    make(
        tmp_path,
        *("Show/tvshow.nfo", "Show/Season 1/e1.nfo", "A/movie.nfo", "A/Extras/x.nfo", "A/.actors/y.nfo"),
        *("B/.ignore", "B/movie.nfo", "C/.nomedia", "C/D/movie.nfo", ".mmgcs/movie.nfo", "@eaDir/movie.nfo"),
    )
    assert found(tmp_path) == {"A/movie.nfo": None}


def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    make(tmp_path, "A/movie.nfo")
    (tmp_path / "A" / "up").symlink_to(tmp_path)
    (tmp_path / "B").symlink_to(tmp_path / "A")
    (tmp_path / "self").symlink_to("self")
    assert found(tmp_path) == {"A/movie.nfo": None}


def test_all_folders_of_a_disk_that_numbers_no_files_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "A/movie.nfo", "B/C/movie.nfo")
    (tmp_path / "B" / "again").symlink_to(tmp_path / "A")
    real = os.stat

    def stat(path: str, **options: bool) -> os.stat_result:  # as some network disks answer on Windows
        status = real(path, **options)
        return os.stat_result((status.st_mode, 0, *status[2:]))

    monkeypatch.setattr(os, "stat", stat)
    films = [place.nfo for place in find_films(tmp_path)]
    monkeypatch.undo()
    assert films == [tmp_path / "A" / "movie.nfo", tmp_path / "B" / "C" / "movie.nfo"]


def test_a_linked_folder_outside_is_part_of_the_library(tmp_path: Path) -> None:
    outside = make(tmp_path / "outside", "A/movie.nfo")
    library = make(tmp_path / "library", "B/movie.nfo")
    (library / "A").symlink_to(outside / "A")
    assert found(library) == {"B/movie.nfo": None, "A/movie.nfo": None}


def test_the_order_is_by_name(tmp_path: Path) -> None:
    make(tmp_path, "b/movie.nfo", "a/z/movie.nfo", "a/y/movie.nfo", "c/movie.nfo")
    assert list(found(tmp_path)) == ["a/y/movie.nfo", "a/z/movie.nfo", "b/movie.nfo", "c/movie.nfo"]


def test_a_pipe_called_like_an_nfo_does_not_stop_the_reading(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "movie.nfo")
    (film,) = map(read_film, find_films(tmp_path))
    assert film.problem == "cannot be read (it is a pipe or a device and no file)"


def test_a_broken_link_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "movie.nfo").symlink_to("nowhere")
    (film,) = map(read_film, find_films(tmp_path))
    assert film.problem == "cannot be read (No such file or directory)"


def test_no_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        list(find_films(tmp_path / "nothing"))


def test_release_notes_beside_a_films_nfo_are_skipped(tmp_path: Path) -> None:
    make(tmp_path, "A/a.mkv", "A/a.nfo")
    (tmp_path / "A" / "GROUP.nfo").write_bytes(b"\xdb\xdb GREETINGS \xdb\xdb")
    films = {film.path.name: film for film in map(read_film, find_films(tmp_path))}
    assert films["a.nfo"].problem is None
    assert films["GROUP.nfo"].problem is None
    assert films["GROUP.nfo"].skipped is not None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("The General (1926)", ("The General", 1926)),
        ("The General (1926) [imdbid-tt0017925]", ("The General", 1926)),
        ("The General [1926] {tmdb-961}", ("The General", 1926)),
        ("The.General.(1926).1080p", ("The General", 1926)),
        ("2001 (1968)", ("2001", 1968)),
        ("Metropolis", ("Metropolis", None)),
        ("Metropolis {tmdb-19}", ("Metropolis", None)),
    ],
)
def test_title_and_year_are_read_from_a_name(name: str, expected: tuple[str, int | None]) -> None:
    assert split_name(name) == expected


def test_a_film_without_nfo_is_known_by_its_folder(tmp_path: Path) -> None:
    make(tmp_path, "The General (1926)/x.mkv", "The General (1926)/poster.jpg")
    (film,) = map(read_film, find_films(tmp_path))
    assert (film.title, film.year, film.plot) == ("The General", 1926, None)
    assert film.to_film().poster == tmp_path / "The General (1926)" / "poster.jpg"
    assert film.path == tmp_path / "The General (1926)"


def test_what_the_nfo_lacks_comes_from_the_folder(tmp_path: Path) -> None:
    make(tmp_path, "The General (1926)/movie.nfo")
    (film,) = map(read_film, find_films(tmp_path))
    assert isinstance(film, LibraryFilm)
    assert (film.title, film.year, film.plot) == ("A", 1926, "A plot.")
