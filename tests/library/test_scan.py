from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmgcs.errors import UsageError
from mmgcs.library.scan import LibraryFilm, find_films, read_film, split_name

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
    films = list(map(read_film, find_films(root)))
    return {shown(root, film): relative(root, film.poster) for film in films}


def shown(root: Path, film: LibraryFilm) -> str:
    return str(relative(root, film.nfo)) if film.nfo else f"[{relative(root, film.new_nfo)}]"


def relative(root: Path, path: Path | None) -> str | None:
    return path.relative_to(root).as_posix() if path else None


# What a folder looks like, and the films in it: from the NFO that is read, or would be created in brackets, to the
# poster. Every NFO holds a plot, so that a film whose NFO is found has a text.
SHAPES: dict[str, tuple[list[str], dict[str, str | None]]] = {
    "movie.nfo": (["A (1950)/movie.nfo", "A (1950)/poster.jpg"], {"A (1950)/movie.nfo": "A (1950)/poster.jpg"}),
    "an NFO called like the video": (["A/a.mkv", "A/a.nfo", "A/a-poster.png"], {"A/a.nfo": "A/a-poster.png"}),
    "an NFO called like the folder": (["A/x.mkv", "A/A.nfo"], {"A/A.nfo": None}),
    "an NFO called otherwise": (["A/x.mkv", "A/film.nfo", "A/x.jpg"], {"A/film.nfo": "A/x.jpg"}),
    "two NFO files": (["A/a.mkv", "A/a.nfo", "A/movie.nfo"], {"A/movie.nfo": None}),
    "a video without NFO": (["A/A.mkv", "A/FOLDER.JPG"], {"[A/movie.nfo]": "A/FOLDER.JPG"}),
    "cover.webp": (["A/a.mkv", "A/a.nfo", "A/cover.webp", "A/movie.jpg"], {"A/a.nfo": "A/cover.webp"}),
    "movie.tbn": (["A/a.mkv", "A/a.nfo", "A/movie.tbn"], {"A/a.nfo": "A/movie.tbn"}),
    "fanart is no poster": (["A/a.mkv", "A/a.nfo", "A/fanart.jpg"], {"A/a.nfo": None}),
    "two parts": (["A/a-cd1.avi", "A/a-cd2.avi", "A/a.nfo"], {"A/a.nfo": None}),
    "two parts with an NFO of the first": (["A/a-cd1.avi", "A/a-cd2.avi", "A/a-cd1.nfo"], {"A/a-cd1.nfo": None}),
    "two parts without NFO": (["A/a part1.avi", "A/a part2.avi", "A/poster.jpg"], {"[A/movie.nfo]": "A/poster.jpg"}),
    "two versions": (["A/A - 4k.mkv", "A/A - 1080p.mkv", "A/poster.jpg"], {"[A/movie.nfo]": "A/poster.jpg"}),
    "two versions with dots": (
        ["A (1950)/A.1950.720p.mkv", "A (1950)/A.1950.4k.mkv", "A (1950)/movie.nfo"],
        {"A (1950)/movie.nfo": None},
    ),
    "sequels in one folder": (
        ["Rocky/Rocky.mkv", "Rocky/Rocky II.mkv"],
        {"[Rocky/Rocky II.nfo]": None, "[Rocky/Rocky.nfo]": None},
    ),
    "a trailer and a sample": (["A/a.mkv", "A/a-trailer.mkv", "A/sample.mkv"], {"[A/movie.nfo]": None}),
    "only a trailer": (["A/a-trailer.mkv"], {}),
    "a title that ends like an extra": (["A/The Big Short.mkv"], {"[A/movie.nfo]": None}),
    "a DVD": (["A/VIDEO_TS/VIDEO_TS.IFO", "A/AUDIO_TS/x.ifo", "A/poster.jpg"], {"[A/movie.nfo]": "A/poster.jpg"}),
    "a DVD with its NFO": (["A/VIDEO_TS/VIDEO_TS.nfo", "A/poster.jpg"], {"A/VIDEO_TS/VIDEO_TS.nfo": "A/poster.jpg"}),
    "a DVD without its folder": (
        ["A/VIDEO_TS.IFO", "A/VTS_01_0.IFO", "A/VTS_01_1.VOB", "A/poster.jpg"],
        {"[A/movie.nfo]": "A/poster.jpg"},
    ),
    "a Blu-ray": (["A/BDMV/STREAM/0.m2ts", "A/CERTIFICATE/x.m2ts", "A/movie.nfo"], {"A/movie.nfo": None}),
    "a Blu-ray without its folder": (["A/index.bdmv", "A/STREAM/0.m2ts", "A/A.nfo"], {"A/A.nfo": None}),
    "several discs": (
        ["A/Disc 1/VIDEO_TS/VIDEO_TS.IFO", "A/Disc 2/VIDEO_TS/VIDEO_TS.IFO", "A/poster.jpg", "A/movie.nfo"],
        {"A/movie.nfo": "A/poster.jpg"},
    ),
    "parts in folders": (["A/CD1/a.avi", "A/CD2/a.avi", "A/CD1/folder.jpg"], {"[A/movie.nfo]": "A/CD1/folder.jpg"}),
    "a box of films": (
        ["Box/Disc 1/a.mkv", "Box/Disc 1/a.nfo", "Box/Disc 2/b.mkv", "Box/Disc 2/b.nfo"],
        {"Box/Disc 1/a.nfo": None, "Box/Disc 2/b.nfo": None},
    ),
    "disks with films": (
        ["Disk 1/a.mkv", "Disk 2/B/b.mkv"],
        {"[Disk 1/movie.nfo]": None, "[Disk 2/B/movie.nfo]": None},
    ),
    "an NFO in a folder": (["A/a.mkv", "A/NFO/movie.nfo", "A/poster.jpg"], {"A/NFO/movie.nfo": "A/poster.jpg"}),
    "posters in a folder": (
        ["m/a.mkv", "m/b.mkv", "m/Posters/a.jpg"],
        {"[m/a.nfo]": "m/Posters/a.jpg", "[m/b.nfo]": None},
    ),
    "a film called Art": (["m/a.mkv", "m/Art/Art.mkv"], {"[m/movie.nfo]": None, "[m/Art/movie.nfo]": None}),
    "deep folders": (
        ["b/c/d/A/movie.nfo", "b/c/d/E/movie.nfo"],
        {"b/c/d/A/movie.nfo": None, "b/c/d/E/movie.nfo": None},
    ),
    "side by side": (
        ["m/a.mkv", "m/a.nfo", "m/a-poster.jpg", "m/b.mkv", "m/b.nfo", "m/c.mkv", "m/c.jpg", "m/poster.jpg"],
        {"m/a.nfo": "m/a-poster.jpg", "m/b.nfo": None, "[m/c.nfo]": "m/c.jpg"},
    ),
    "side by side with a stray movie.nfo": (
        ["m/a.mkv", "m/a-poster.jpg", "m/b.mkv", "m/b-poster.jpg", "m/movie.nfo"],
        {"[m/a.nfo]": "m/a-poster.jpg", "[m/b.nfo]": "m/b-poster.jpg", "m/movie.nfo": None},
    ),
    "sequels side by side": (
        [
            f"m/The Ferryman{part}{end}"
            for part in ("", " Part 2", " Part 3")
            for end in (".mkv", ".nfo", "-poster.jpg")
        ],
        {f"m/The Ferryman{part}.nfo": f"m/The Ferryman{part}-poster.jpg" for part in (" Part 2", " Part 3", "")},
    ),
    "films called part, with posters": (
        ["m/F Part 1.mkv", "m/F Part 1-poster.jpg", "m/F Part 2.mkv", "m/F Part 2-poster.jpg"],
        {f"[m/F Part {number}.nfo]": f"m/F Part {number}-poster.jpg" for number in (1, 2)},
    ),
    "parts side by side": (
        ["m/a.cd1.avi", "m/a.cd2.avi", "m/a.cd1.jpg", "m/a.cd2.jpg", "m/b.mkv"],
        {"[m/a.nfo]": "m/a.cd1.jpg", "[m/b.nfo]": None},
    ),
    "a single part": (["m/a.mkv", "m/d-part1.avi"], {"[m/a.nfo]": None, "[m/d-part1.nfo]": None}),
    "no film": (["A/poster.jpg", "A/readme.txt"], {}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_films_posters_and_texts_are_found_in_every_shape_of_folder(tmp_path: Path, shape: str) -> None:
    files, expected = SHAPES[shape]
    assert found(make(tmp_path, *files)) == expected
    for film in map(read_film, find_films(tmp_path)):
        assert (film.plot is not None) == (film.nfo is not None and film.skipped is None)


@pytest.mark.parametrize("start", [".", "..", "../Alien (1979)", "extras/.."])
def test_versions_are_one_film_from_whichever_folder_they_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    folder = make(tmp_path, "Alien (1979)/Alien (1979) - 4k.mkv", "Alien (1979)/Alien (1979) - BR.mkv") / "Alien (1979)"
    (folder / "extras").mkdir()
    monkeypatch.chdir(folder if start != ".." else folder / "extras")
    (film,) = map(read_film, find_films(Path(start)))
    assert (film.title, film.year) == ("Alien", 1979)
    assert film.new_nfo == Path(start) / "movie.nfo"


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
    assert film.problem == "cannot be read (it is a pipe or a device, not a file)"


def test_a_broken_link_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "movie.nfo").symlink_to("nowhere")
    (film,) = map(read_film, find_films(tmp_path))
    assert film.problem == "cannot be read (No such file or directory)"


def test_no_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        list(find_films(tmp_path / "nothing"))


def test_release_notes_are_no_nfo(tmp_path: Path) -> None:
    make(tmp_path, "A/a.mkv", "A/a.nfo", "B (1950)/b.mkv", "B (1950)/b.nfo", "C/c.nfo")
    for name in ("A/GROUP.nfo", "B (1950)/b.nfo", "C/c.nfo"):
        (tmp_path / name).write_bytes(b"\xdb\xdb GREETINGS \xdb\xdb")
    films = {film.path.relative_to(tmp_path).as_posix(): film for film in map(read_film, find_films(tmp_path))}
    assert list(films) == ["A/a.nfo", "B (1950)", "C/c.nfo"]
    assert films["A/a.nfo"].plot == "A plot."
    assert (films["B (1950)"].title, films["B (1950)"].notes) == ("B", ("b.nfo is text, such as release notes",))
    assert films["C/c.nfo"].skipped is not None


def test_a_link_for_a_scraper_is_skipped_and_the_next_nfo_read(tmp_path: Path) -> None:
    make(tmp_path, "A/a.mkv", "A/movie.nfo", "B/b.mkv", "B/b.nfo", "B/movie.nfo")
    for name in ("A/movie.nfo", "B/movie.nfo"):
        (tmp_path / name).write_bytes(b"https://www.themoviedb.org/movie/1\n")
    first, second = map(read_film, find_films(tmp_path))
    assert (first.skipped, first.path) == ("it holds only a link", tmp_path / "A" / "movie.nfo")
    assert (second.skipped, second.path) == (None, tmp_path / "B" / "b.nfo")


def test_ids_in_names_are_read(tmp_path: Path) -> None:
    make(tmp_path, "Heat (1995) [imdbid-tt0113277] {tmdb-949}/film.mkv")
    (film,) = map(read_film, find_films(tmp_path))
    assert film.to_film().record == {"imdb_id": "tt0113277", "tmdb_id": "949"}


def test_a_file_that_nobody_may_write_is_locked(tmp_path: Path) -> None:
    make(tmp_path, "A/movie.nfo", "B/movie.nfo")
    (tmp_path / "B" / "movie.nfo").chmod(0o444)
    assert [film.locked for film in map(read_film, find_films(tmp_path))] == [None, "its .nfo is write-protected"]


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
