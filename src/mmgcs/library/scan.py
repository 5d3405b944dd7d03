"""Finding films in folders as Kodi, Jellyfin, Emby and Plex keep them.

A film is a `.nfo` file, or a video that none belongs to: `Title (Year)/movie.nfo`, `Title (Year)/<file>.nfo`, or many
films side by side in one folder. Folders are listed once each, in the order of their names; nothing is opened but the
NFO files.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmgcs.errors import UsageError
from mmgcs.files import open_file
from mmgcs.film import Film
from mmgcs.library.nfo import MAX_BYTES, NfoError, NotAFilmError, read_nfo

STATE = ".mmgcs"
"""The folder in a library that holds what `undo` needs."""

VIDEOS = frozenset(
    "3gp asf avi bdmv divx flv ifo img iso m2ts m4v mk3d mkv mov mp4 mpeg mpg mts ogm ogv rm rmvb strm ts vob webm wmv"
    " wtv".split()
)
PICTURES = frozenset("avif bmp gif jpeg jpg png tbn tif tiff webp".split())
DISCS = {"video_ts": "VIDEO_TS.nfo", "bdmv": "index.nfo"}
"""Folders that are a disc's content: the film is the folder above."""
# What media centres keep beside a film, and what network disks add.
NO_FILMS = frozenset(
    [
        *("behind the scenes", "deleted scenes", "featurettes", "interviews", "scenes", "shorts", "trailers", "clips"),
        *("extras", "other", "samples", "sample", "backdrops", "theme-music", "extrafanart", "extrathumbs", "subs"),
        *("@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "metadata"),
    ]
)
OTHER_NFO = re.compile(r"(tvshow|season.*|artist|album|collection)\.nfo", re.IGNORECASE)
EXTRA_VIDEO = re.compile(
    r"(?:(?:^|[-._ ])(?:trailer|sample)|^theme"
    r"|-(?:featurette|behindthescenes|deleted|interview|scene|short|clip|extra|other))\d*$"
)
PART = re.compile(r"[-._ ]+(cd|dvd|part|pt|disc|disk)[-._ ]?[0-9a-d]$", re.IGNORECASE)
TITLE_YEAR = re.compile(r"^(?P<title>.+?)[-._ ]*[(\[](?P<year>(?:18|19|20)\d\d)[)\]]")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a film lies.

    Attributes:
        nfo: its NFO file; None where it has none.
        new_nfo: the NFO that would be made for it.
        poster: its poster; None where it has none.
        name: what its folder or file is called.
        expected: whether media centres would read the NFO: it is a `movie.nfo` or called like a video.
        problem: why the folder could not be listed; such a place holds no film.
    """

    nfo: Path | None
    new_nfo: Path
    poster: Path | None
    name: str
    expected: bool = True
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class LibraryFilm:
    """A film of a library, read.

    Attributes:
        place: where it lies.
        title, year: from its NFO, else from the name of its folder.
        plot: from its NFO.
        genres: as its NFO spells them; empty where it names none.
        locked: the lock in the NFO that forbids changing the genres.
        skipped: why it is no concern of ours (a series, only a link); such a film is neither predicted nor an error.
        problem: why it cannot be read.
        sha256: of the NFO's bytes when it was read.
        names: how many names the NFO has: more than one where it is hard-linked.
    """

    place: Place
    title: str | None = None
    year: int | None = None
    plot: str | None = None
    genres: tuple[str, ...] = ()
    locked: str | None = None
    skipped: str | None = None
    problem: str | None = None
    sha256: str | None = None
    names: int = 1

    @property
    def path(self) -> Path:
        """The file or folder to name when speaking of this film."""
        new = self.place.new_nfo
        return self.place.nfo or (new.parent if new.name == "movie.nfo" else new)

    def to_film(self) -> Film:
        """What a classifier reads."""
        return Film(
            id=str(self.path),
            title=self.title,
            year=self.year,
            plot=self.plot,
            poster=self.place.poster,
            problem=self.problem or self.skipped,
        )


def find_films(root: Path) -> Iterator[Place]:
    """Yield every film under the folder `root`, each once, whatever links lead there.

    Hidden folders, extras, series (folders with a `tvshow.nfo`) and folders with a `.ignore` or `.nomedia` file are
    passed over. A folder that cannot be listed yields a place with a `problem`.

    Raises:
        UsageError: `root` is not a folder.
    """
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}; give the folder that holds the films")
    seen: set[tuple[int, int | str]] = set()
    links: list[Path] = []
    yield from _walk(root, seen, links)
    # Linked folders come last, so that a film that is also here in its own place is reported there.
    while links:
        yield from _walk(links.pop(0), seen, links)


def read_film(place: Place) -> LibraryFilm:
    """Read a film's NFO. Never raises for a bad file: the film then has a `problem` or was `skipped`."""
    if place.problem is not None:
        return LibraryFilm(place, problem=place.problem)
    if place.nfo is None:
        title, year = split_name(place.name)
        return LibraryFilm(place, title=title, year=year)
    try:
        with open_file(place.nfo) as handle:
            status = os.fstat(handle.fileno())
            content = handle.read(min(MAX_BYTES, status.st_size) + 1)
            names = status.st_nlink
    except OSError as error:
        return LibraryFilm(place, problem=f"cannot be read ({error.strerror or error})")
    try:
        nfo = read_nfo(content)
    except NotAFilmError as error:
        return LibraryFilm(place, skipped=str(error))
    except NfoError as error:
        # Release notes are called .nfo too, and are no damage.
        return LibraryFilm(place, problem=str(error)) if place.expected else LibraryFilm(place, skipped=str(error))
    title, year = (nfo.title, nfo.year) if nfo.title and nfo.year else split_name(place.name)
    return LibraryFilm(
        place,
        title=nfo.title or title,
        year=nfo.year or year,
        plot=nfo.plot,
        genres=nfo.genres,
        locked=nfo.locked,
        sha256=hashlib.sha256(content).hexdigest(),
        names=names,
    )


def split_name(name: str) -> tuple[str | None, int | None]:
    """The title and year in the name of a folder or file.

    >>> split_name("The General (1926) [imdbid-tt0017925]"), split_name("The.General")
    (('The General', 1926), ('The General', None))
    """
    match = TITLE_YEAR.match(name)
    title, year = (match["title"], int(match["year"])) if match else (re.sub(r"[\[{].*?[\]}]", "", name), None)
    if " " not in title:
        title = title.replace(".", " ").replace("_", " ")
    return title.strip(" -") or None, year


def _walk(folder: Path, seen: set[tuple[int, int | str]], links: list[Path]) -> Iterator[Place]:
    """The films in `folder` and below it; linked folders are left in `links`."""
    # Of "." and the like the real name; the root of a disk has none.
    waiting = [(str(folder), folder.name if folder.name not in ("", "..") else folder.resolve().name)]
    while waiting:
        path, title = waiting.pop()
        try:
            status = os.stat(path)  # noqa: PTH116  (a Path for each of a million folders is half the time of a scan)
            # Some network disks of Windows number no files; there a folder is known by its path.
            itself = (status.st_dev, status.st_ino or os.path.realpath(path))
            if itself in seen:
                continue
            seen.add(itself)
            folders, files = _list(path)
        except OSError as error:
            place = Path(path)
            yield Place(None, place, None, title, problem=f"the folder cannot be listed ({error.strerror or error})")
            continue
        if ".ignore" in files or ".nomedia" in files or "tvshow.nfo" in files:
            continue
        discs = [entry.name for entry in folders if entry.name.lower() in DISCS]
        yield from _films_in(path, title, files, discs)
        below = []
        for entry in folders:
            name = entry.name.lower()
            if not name.startswith(".") and name not in NO_FILMS and name not in DISCS:
                if entry.is_symlink():
                    links.append(Path(entry.path))
                else:
                    below.append((entry.path, entry.name))
        waiting.extend(reversed(below))


def _list(path: str) -> tuple[list[os.DirEntry[str]], dict[str, str]]:
    """The folders in a folder in order, and its files from lower-case name to name."""
    folders, files = [], {}
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                is_folder = entry.is_dir()
            except OSError:
                continue  # a link in a circle of links
            if is_folder:
                folders.append(entry)
            else:
                files[entry.name.lower()] = entry.name
    folders.sort(key=lambda entry: entry.name)
    return folders, files


def _films_in(folder: str, title: str, files: dict[str, str], discs: list[str]) -> Iterator[Place]:
    """The films among the files and discs of a folder that is called `title`."""
    names = sorted(files)
    nfos = [name for name in names if name.endswith(".nfo") and name[0] != "." and not OTHER_NFO.fullmatch(name)]
    videos = _videos(names)
    if not nfos and not discs and not videos:
        return
    base, pictures = Path(folder), _pictures(files)
    stems = {_stem(video) for video in videos}
    described = {name[:-4] for name in nfos}
    alone = _is_one_film(title.lower(), described, stems, bool(discs))
    known = {"movie", *stems, *(video.rpartition(".")[0] for video in videos)}
    for name in nfos:
        stem = files[name][:-4]
        called = title if alone else stem
        poster = _poster(base, pictures, name[:-4], alone)
        yield Place(base / files[name], base / files[name], poster, called, not videos or name[:-4] in known)
    if discs:
        inner = [found for disc in discs if (found := _inside(base / disc))]
        for path in inner:
            yield Place(path, path, _poster(base, pictures, "movie", True), title)
        if not inner and not nfos:
            yield Place(None, base / "movie.nfo", _poster(base, pictures, "movie", True), title)
    elif alone and not nfos:
        yield Place(None, base / "movie.nfo", _poster(base, pictures, _stem(videos[0]), True), title)
    elif not alone:
        for stem, video in {_stem(video): video for video in reversed(videos)}.items():
            if stem not in described and video.rpartition(".")[0] not in described:
                own = PART.sub("", files[video].rpartition(".")[0])
                yield Place(None, base / f"{own}.nfo", _poster(base, pictures, stem, False), own)


def _videos(names: list[str]) -> list[str]:
    pairs = (name.rpartition(".") for name in names)
    return [
        f"{stem}.{extension}"
        for stem, _, extension in pairs
        if extension in VIDEOS and stem and stem[0] != "." and not EXTRA_VIDEO.search(stem)
    ]


def _stem(video: str) -> str:
    return PART.sub("", video.rpartition(".")[0])


def _is_one_film(title: str, described: set[str], stems: set[str], disc: bool) -> bool:
    # A disc, a movie.nfo, one video, or versions and parts that are called like the folder. A whole disk is no film.
    if not title:
        return False
    if disc or "movie" in described or len(stems or described) <= 1:
        return True
    return all(stem.startswith(title) for stem in stems | described)


def _inside(disc: Path) -> Path | None:
    path = disc / DISCS[disc.name.lower()]
    return path if path.is_file() else None


def _pictures(files: dict[str, str]) -> dict[str, str]:
    """The pictures in a folder, from lower-case name without extension to name."""
    pictures: dict[str, str] = {}
    for name, real in files.items():
        stem, _, extension = name.rpartition(".")
        if extension in PICTURES:
            pictures[stem] = min(real, pictures.get(stem, real))
    return pictures


def _poster(folder: Path, pictures: dict[str, str], stem: str, alone: bool) -> Path | None:
    """A film's poster: in its own folder `poster`, `folder`, `cover`, `<name>-poster`, `movie`; else by its name."""
    stem = PART.sub("", stem)
    shared = ("poster", "folder", "cover") if alone else ()
    for start in (*shared, f"{stem}-poster", *(("movie-poster", "movie") if alone else ()), stem):
        if start in pictures:
            return folder / pictures[start]
    others = sorted(start for start in pictures if alone and start.endswith("-poster"))
    return folder / pictures[others[0]] if others else None
