"""Films are found in every common folder layout."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from mmgcs.library.scan import LibraryFilm, find_films, read_film, split_name

FILM = b"<movie><title>A</title><plot>A plot.</plot></movie>"


def make(root: Path, *names: str) -> Path:
    """Create files: each NFO describes a film, any other file holds one byte."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FILM if name.endswith(".nfo") else b"x")
    return root


def films_in(root: Path) -> dict[str, LibraryFilm]:
    """Return the films by their (future) NFO files, relative to the library."""
    films = map(read_film, find_films(root))
    return {(film.nfo or film.new_nfo).relative_to(root).as_posix(): film for film in films}


# For each layout: its name, its files, and its films: the (future) NFO | poster | text if there is a plot.
SHAPES = """
movie.nfo                           A (1950)/movie.nfo  A (1950)/poster.jpg
                                        A (1950)/movie.nfo | A (1950)/poster.jpg | text
NFO named like the video            A/a.mkv  A/a.nfo  A/a-poster.png
                                        A/a.nfo | A/a-poster.png | text
NFO named like the folder           A/x.mkv  A/A.nfo
                                        A/A.nfo | - | text
NFO with another name               A/x.mkv  A/film.nfo  A/x.jpg
                                        A/film.nfo | A/x.jpg | text
two NFO files                       A/a.mkv  A/a.nfo  A/movie.nfo
                                        A/movie.nfo | - | text
video without NFO                   A/A.mkv  A/FOLDER.JPG
                                        A/movie.nfo | A/FOLDER.JPG | -
cover.webp                          A/a.mkv  A/a.nfo  A/cover.webp  A/movie.jpg
                                        A/a.nfo | A/cover.webp | text
movie.tbn                           A/a.mkv  A/a.nfo  A/movie.tbn
                                        A/a.nfo | A/movie.tbn | text
fanart is no poster                 A/a.mkv  A/a.nfo  A/fanart.jpg
                                        A/a.nfo | - | text
two parts                           A/a-cd1.avi  A/a-cd2.avi  A/a.nfo
                                        A/a.nfo | - | text
two parts, NFO of the first         A/a-cd1.avi  A/a-cd2.avi  A/a-cd1.nfo
                                        A/a-cd1.nfo | - | text
two parts without NFO               A/a part1.avi  A/a part2.avi  A/poster.jpg
                                        A/movie.nfo | A/poster.jpg | -
two versions                        A/A - 4k.mkv  A/A - 1080p.mkv  A/poster.jpg
                                        A/movie.nfo | A/poster.jpg | -
two versions with dots              A (1950)/A.1950.720p.mkv  A (1950)/A.1950.4k.mkv  A (1950)/movie.nfo
                                        A (1950)/movie.nfo | - | text
sequels in one folder               Rocky/Rocky.mkv  Rocky/Rocky II.mkv
                                        Rocky/Rocky.nfo | - | -
                                        Rocky/Rocky II.nfo | - | -
trailer and sample                  A/a.mkv  A/a-trailer.mkv  A/sample.mkv
                                        A/movie.nfo | - | -
only a trailer                      A/a-trailer.mkv
a single film in the library        a.mkv  a.nfo  folder.jpg  B/b.mkv
                                        a.nfo | - | text
                                        B/movie.nfo | - | -
short films, and extras             Shorts/A/a.mkv  B/b.mkv  B/Shorts/c.mkv  B/Other/d.mkv
                                        Shorts/A/movie.nfo | - | -
                                        B/movie.nfo | - | -
files of macOS                      A/._x.mkv  A/x.mkv  A/._B-poster.jpg  A/B-poster.jpg
                                        A/movie.nfo | A/B-poster.jpg | -
title that ends like an extra       A/The Big Short.mkv
                                        A/movie.nfo | - | -
DVD                                 A/VIDEO_TS/VIDEO_TS.IFO  A/AUDIO_TS/x.ifo  A/poster.jpg
                                        A/movie.nfo | A/poster.jpg | -
DVD with its NFO                    A/VIDEO_TS/VIDEO_TS.nfo  A/poster.jpg
                                        A/VIDEO_TS/VIDEO_TS.nfo | A/poster.jpg | text
DVD without its folder              A/VIDEO_TS.IFO  A/VTS_01_0.IFO  A/VTS_01_1.VOB  A/poster.jpg
                                        A/movie.nfo | A/poster.jpg | -
Blu-ray                             A/BDMV/STREAM/0.m2ts  A/CERTIFICATE/x.m2ts  A/movie.nfo
                                        A/movie.nfo | - | text
Blu-ray without its folder          A/index.bdmv  A/STREAM/0.m2ts  A/A.nfo
                                        A/A.nfo | - | text
several discs                       A/Disc 1/VIDEO_TS/x.IFO  A/Disc 2/VIDEO_TS/x.IFO  A/poster.jpg  A/movie.nfo
                                        A/movie.nfo | A/poster.jpg | text
parts in folders                    A/CD1/a.avi  A/CD2/a.avi  A/CD1/folder.jpg
                                        A/movie.nfo | A/CD1/folder.jpg | -
box of films                        Box/Disc 1/a.mkv  Box/Disc 1/a.nfo  Box/Disc 2/b.mkv  Box/Disc 2/b.nfo
                                        Box/Disc 1/a.nfo | - | text
                                        Box/Disc 2/b.nfo | - | text
disks with films                    Disk 1/a.mkv  Disk 2/B/b.mkv
                                        Disk 1/movie.nfo | - | -
                                        Disk 2/B/movie.nfo | - | -
NFO in a folder                     A/a.mkv  A/NFO/movie.nfo  A/poster.jpg
                                        A/NFO/movie.nfo | A/poster.jpg | text
posters in a folder                 m/a.mkv  m/b.mkv  m/Posters/a.jpg
                                        m/a.nfo | m/Posters/a.jpg | -
                                        m/b.nfo | - | -
film named Art                      m/a.mkv  m/Art/Art.mkv
                                        m/movie.nfo | - | -
                                        m/Art/movie.nfo | - | -
deep folders                        b/c/d/A/movie.nfo  b/c/d/E/movie.nfo
                                        b/c/d/A/movie.nfo | - | text
                                        b/c/d/E/movie.nfo | - | text
side by side                        m/a.mkv  m/a.nfo  m/a-poster.jpg  m/b.mkv  m/b.nfo  m/c.mkv  m/c.jpg  m/poster.jpg
                                        m/a.nfo | m/a-poster.jpg | text
                                        m/b.nfo | - | text
                                        m/c.nfo | m/c.jpg | -
stray movie.nfo                     m/a.mkv  m/a-poster.jpg  m/b.mkv  m/b-poster.jpg  m/movie.nfo
                                        m/a.nfo | m/a-poster.jpg | -
                                        m/b.nfo | m/b-poster.jpg | -
                                        m/movie.nfo | - | -
sequels side by side                m/F.mkv  m/F.nfo  m/F-poster.jpg  \
m/F Part 2.mkv  m/F Part 2.nfo  m/F Part 2-poster.jpg
                                        m/F.nfo | m/F-poster.jpg | text
                                        m/F Part 2.nfo | m/F Part 2-poster.jpg | text
films called part, with posters     m/F Part 1.mkv  m/F Part 1-poster.jpg  m/F Part 2.mkv  m/F Part 2-poster.jpg
                                        m/F Part 1.nfo | m/F Part 1-poster.jpg | -
                                        m/F Part 2.nfo | m/F Part 2-poster.jpg | -
parts side by side                  m/a.cd1.avi  m/a.cd2.avi  m/a.cd1.jpg  m/a.cd2.jpg  m/b.mkv
                                        m/a.nfo | m/a.cd1.jpg | -
                                        m/b.nfo | - | -
discs side by side, with posters    m/D-cd1.avi  m/D-cd2.avi  m/D-cd1-poster.jpg  m/D-cd2-poster.jpg  m/E.mkv
                                        m/D.nfo | m/D-cd1-poster.jpg | -
                                        m/E.nfo | - | -
single part                         m/a.mkv  m/d-part1.avi
                                        m/a.nfo | - | -
                                        m/d-part1.nfo | - | -
no film                             A/poster.jpg  A/readme.txt
episodes without tvshow.nfo         S/Season 1/S.1x01.mkv  S/Season 1/folder.jpg  T/T.S01E02.mkv  \
T/T.s01e03.mkv  A/A.mkv
                                        A/movie.nfo | - | -
series, extras, hidden, marked      S/tvshow.nfo  S/Season 1/e.nfo  A/movie.nfo  A/Extras/x.nfo  A/.actors/y.nfo  \
B/.ignore  B/movie.nfo  C/.nomedia  C/D/movie.nfo  .mmgcs/movie.nfo  @eaDir/movie.nfo
                                        A/movie.nfo | - | text
"""


def shapes() -> dict[str, tuple[list[str], list[str]]]:
    """Return each layout's files and films, by its name."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    films: list[str] = []
    for line in SHAPES.strip().splitlines():
        if line.startswith(" "):
            films.append(line.strip())
        else:
            films = []
            found[line[:36].strip()] = (re.split("  +", line[36:]), films)
    return found


@pytest.mark.parametrize(("files", "expected"), shapes().values(), ids=shapes())
def test_films_posters_and_plots_are_found_in_every_layout(
    tmp_path: Path, files: list[str], expected: list[str]
) -> None:
    rows = set()
    for name, film in films_in(make(tmp_path, *files)).items():
        poster = film.poster.relative_to(tmp_path).as_posix() if film.poster else "-"
        rows.add(f"{name} | {poster} | {'text' if film.plot else '-'}")
    assert rows == set(expected)


def test_the_order_is_by_name_and_linked_folders_come_last_and_once(tmp_path: Path) -> None:
    outside, library = tmp_path / "outside", make(tmp_path / "library", "b/movie.nfo", "a/z/movie.nfo", "a/y/movie.nfo")
    make(outside, "movie.nfo")
    for name, target in {"a/up": library, "A": outside, "B": outside, "self": Path("self")}.items():
        (library / name).symlink_to(target)
    assert list(films_in(library)) == ["a/y/movie.nfo", "a/z/movie.nfo", "b/movie.nfo", "A/movie.nfo"]


@pytest.mark.parametrize("start", [".", "..", "../Alien (1979)", "extras/.."])
def test_versions_are_one_film_whatever_the_scan_starts_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    folder = make(tmp_path, "Alien (1979)/Alien (1979) - 4k.mkv", "Alien (1979)/Alien (1979) - BR.mkv") / "Alien (1979)"
    (folder / "extras").mkdir()
    monkeypatch.chdir(folder if start != ".." else folder / "extras")
    (film,) = map(read_film, find_films(Path(start)))
    assert (film.title, film.year, film.new_nfo) == ("Alien", 1979, Path(start) / "movie.nfo")


def test_a_pipe_or_a_broken_link_named_like_an_nfo_is_a_problem(tmp_path: Path) -> None:
    make(tmp_path, "A/a.mkv", "B/b.mkv")
    os.mkfifo(tmp_path / "A" / "movie.nfo")
    (tmp_path / "B" / "movie.nfo").symlink_to("nowhere")
    assert [film.problem for film in films_in(tmp_path).values()] == [
        "cannot be read (it is a pipe or a device, not a file)",
        "cannot be read (No such file or directory)",
    ]


def test_release_notes_are_not_an_nfo(tmp_path: Path) -> None:
    make(tmp_path, "A/a.mkv", "A/a.nfo", "B (1950)/b.mkv", "B (1950)/b.nfo", "C/c.nfo")
    for name in ("A/GROUP.nfo", "B (1950)/b.nfo", "C/c.nfo"):
        (tmp_path / name).write_bytes(b"\xdb\xdb GREETINGS \xdb\xdb")
    films = {film.path.relative_to(tmp_path).as_posix(): film for film in map(read_film, find_films(tmp_path))}
    assert list(films) == ["A/a.nfo", "B (1950)", "C/c.nfo"]
    assert films["A/a.nfo"].plot == "A plot."
    assert (films["B (1950)"].title, films["B (1950)"].notes) == ("B", ("b.nfo is not XML; perhaps release notes",))
    assert films["C/c.nfo"].skipped is not None


def test_a_link_for_a_scraper_is_skipped_and_the_next_nfo_read(tmp_path: Path) -> None:
    make(tmp_path, "A/a.mkv", "A/movie.nfo", "B/b.mkv", "B/b.nfo", "B/movie.nfo")
    for name in ("A/movie.nfo", "B/movie.nfo"):
        (tmp_path / name).write_bytes(b"https://www.themoviedb.org/movie/1\n")
    assert {name: film.skipped for name, film in films_in(tmp_path).items()} == {
        "A/movie.nfo": "it holds only a link",
        "B/b.nfo": None,
    }


def test_a_write_protected_file_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "A/movie.nfo", "B/movie.nfo", "C/movie.nfo")
    (tmp_path / "B" / "movie.nfo").chmod(0o444)
    monkeypatch.setattr(os, "access", lambda path, _: path.parent.name != "C")  # another user's file
    locked = "its .nfo is write-protected"
    assert [film.locked for film in films_in(tmp_path).values()] == [None, locked, locked]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("The General (1926)", ("The General", 1926)),
        ("The General (1926) [imdbid-tt0017925]", ("The General", 1926)),
        ("The General [1926] {tmdb-961}", ("The General", 1926)),
        ("The.General.(1926).1080p", ("The General", 1926)),
        ("2001 (1968)", ("2001", 1968)),
        ("2001.A.Space.Odyssey.1968.1080p.BluRay-X", ("2001 A Space Odyssey", 1968)),
        ("Wonder Woman 1984", ("Wonder Woman 1984", None)),
        ("Metropolis", ("Metropolis", None)),
        ("Metropolis {tmdb-19}", ("Metropolis", None)),
    ],
)
def test_title_and_year_are_read_from_a_name(name: str, expected: tuple[str, int | None]) -> None:
    assert split_name(name) == expected


def test_what_the_nfo_lacks_is_taken_from_the_name_of_the_folder(tmp_path: Path) -> None:
    make(tmp_path, "Heat (1995) [imdbid=tt0113277] {tmdb-949}/movie.nfo", "The General (1926)/x.mkv")
    first, second = map(read_film, find_films(tmp_path))
    assert (first.title, first.year, first.plot) == ("A", 1995, "A plot.")
    assert first.to_film().record == {"imdb_id": "tt0113277", "tmdb_id": "949"}
    assert (second.title, second.year, second.plot) == ("The General", 1926, None)
    assert second.path == tmp_path / "The General (1926)"
