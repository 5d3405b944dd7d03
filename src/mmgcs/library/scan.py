"""Find films in folders as Kodi, Jellyfin and Emby keep them.

A film is a video, several parts of one, a disc, or an `.nfo` without any of these: alone in its folder
(`Title (Year)/film.mkv` with `movie.nfo` or `film.nfo`), or next to other films (`A.mkv`, `A.nfo`, `B.mkv`, …). Each
folder is listed once, in order of name; only NFO files are opened.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mmgcs.files import open_file
from mmgcs.film import Film
from mmgcs.library.nfo import MAX_BYTES, Nfo, NfoError, NotAFilmError, NotXmlError, read_nfo

VIDEOS = frozenset(
    "3gp asf avi bdmv divx flv ifo img iso m2ts m4v mk3d mkv mov mp4 mpeg mpg mts ogm ogv rm rmvb strm ts vob webm wmv"
    " wtv".split()
)
PICTURES = frozenset("avif bmp gif jpeg jpg png tbn tif tiff webp".split())
DISCS = {"video_ts": "video_ts.nfo", "bdmv": "index.nfo"}
"""Folders that are a disc's content, and the NFO in them: the film is the folder above."""
DISC_FILE = re.compile(r"(?:video_ts|vts_\d\d_\d)\.(?:ifo|vob|bup)|(?:index|movieobject)\.bdmv")
"""Files of a disc without its folder."""
DISC_NUMBER = re.compile(r"(?:.*[-._ ])?(?:cd|dvd|disc|disk)[-._ ]?\d{1,2}")
"""Folders such as "Disc 2": the film is the folder above."""
COMPANIONS = frozenset("nfo nfos info artwork art cover covers poster posters".split())
"""Folders that hold the NFO files and posters of the films next to them."""
# Folders without films: what media servers keep next to a film, parts of a disc, and what network disks add.
NO_FILMS = frozenset(
    [
        *("behind the scenes", "deleted scenes", "featurettes", "interviews", "scenes", "trailers", "clips", "extras"),
        *("samples", "sample", "backdrops", "theme-music", "extrafanart", "extrathumbs", "subs"),
        *("@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "metadata"),
        *("audio_ts", "certificate"),
    ]
)
PERHAPS_EXTRAS = frozenset(("other", "shorts"))
"""Folders of extras if they are next to a film; otherwise they may hold films, such as short ones."""
DISC_PARTS = frozenset("stream playlist clipinf auxdata backup jar bdjo meta".split())
OTHER_NFO = re.compile(r"(tvshow|season.*|artist|album|collection)\.nfo$")
EXTRA_VIDEO = re.compile(
    r"(?:(?:^|[-._ ])(?:trailer|sample)|^theme"
    r"|-(?:featurette|behindthescenes|deleted|interview|scene|short|clip|extra|other))\d*$"
    r"|(?:^|[-._ ])s\d{1,4}[-._ ]?e\d{1,4}"
)
"""Videos that are not films: trailers, samples, extras, and episodes such as "S01E02"."""
SEASON = re.compile(r"(?:season|staffel|saison|temporada|stagione|seizoen)[-._ ]?\d{1,4}")
PART = re.compile(r"[-._ (\[]+(?P<word>cd|dvd|part|pt|disc|disk)[-._ ]?(?P<number>\d{1,2}|[a-d])[)\]]?$", re.IGNORECASE)
VERSION = re.compile(r"\s*(?:$|[-_.\[({])")
"""What follows the folder's name in the file name of one version of a film."""
TITLE_YEAR = re.compile(r"^(?P<title>.+?)[-._ ]*[(\[](?P<year>(?:18|19|20)\d\d)[)\]]")
SCENE_NAME = re.compile(r"(?P<title>\S+)[-._](?P<year>(?:19|20)\d\d)[-._]\S+")
"""Names of downloads, such as "The.General.1926.1080p.BluRay": the last year is the film's."""
ID_IN_NAME = re.compile(r"[\[{](?P<kind>imdb|tmdb)(?:id)?[-=](?P<id>tt\d+|\d+)[\]}]", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryFilm(Nfo):
    """A film of a library: its files, and once `read_film` has read it, what its NFO says (the attributes of `Nfo`).

    The title, year and ids come from the name of its folder if its NFO lacks them.

    Attributes:
        name: the name of its folder or file.
        nfos: its NFO files, in the order media servers prefer them. The first one that describes a film is read.
        new_nfo: the NFO that would be created for it.
        poster: its poster, or None.
        video: its first video, or its folder if that holds no other film; None without a video or disc.
        nfo: the NFO that describes it, or None.
        skipped: why it is skipped, such as a series; such a film is neither predicted nor an error.
        problem: why it cannot be read.
        sha256: the SHA-256 of the NFO when it was read.
        links: the NFO's number of hard links.
    """

    name: str
    nfos: tuple[Path, ...] = ()
    new_nfo: Path
    poster: Path | None = None
    video: Path | None = None
    nfo: Path | None = None
    skipped: str | None = None
    problem: str | None = None
    sha256: str | None = None
    links: int = 1

    @property
    def path(self) -> Path:
        """The file or folder that lists show for this film."""
        return self.nfo or self.video or self.new_nfo

    def to_film(self) -> Film:
        """Convert to the `Film` that the classifier and `--enrich` expect."""
        ids = {f"{kind}_id": value for kind, value in self.ids.items()}
        return Film(id=str(self.path), title=self.title, year=self.year, plot=self.plot, poster=self.poster, record=ids)


def find_films(root: Path) -> Iterator[LibraryFilm]:
    """Yield every film under the folder `root` once, even if several links lead to it. No NFO is read yet.

    Hidden folders, extras, series (folders with a `tvshow.nfo`, seasons, episodes) and folders with a `.ignore` or
    `.nomedia` file are skipped. A folder that cannot be listed is yielded with a `problem`.
    """
    seen: set[str] = set()
    links = [str(root)]
    # Linked folders come last, so that a film that is also under `root` itself is reported there.
    while links:
        yield from _walk(links.pop(0), seen, links)


def read_film(film: LibraryFilm) -> LibraryFilm:
    """Read a film's NFO. Never raises for a bad file: the film then has a `problem`, or is `skipped`."""
    if film.problem is not None or film.skipped is not None:
        return replace(film, nfo=next(iter(film.nfos), None))
    refused: NotAFilmError | None = None
    for path in film.nfos:
        try:
            read = _read(film, path)
        except NotAFilmError as error:
            refused = refused or error
            continue
        except (NfoError, OSError) as error:
            message = f"cannot be read ({error.strerror or error})" if isinstance(error, OSError) else str(error)
            return replace(film, nfo=path, problem=message)
        if others := [other.name for other in film.nfos if other != path]:
            note = f"{path.name} was read; {', '.join(others)} may describe the same film"
            return replace(read, notes=(*read.notes, note))
        return read
    if refused is not None and not (film.video and isinstance(refused, NotXmlError)):
        return replace(film, nfo=film.nfos[0], skipped=str(refused))
    notes = (f"{film.nfos[0].name} is not XML; perhaps release notes",) if refused is not None else ()
    title, year = split_name(film.name)
    return replace(film, title=title, year=year, notes=notes, ids=_ids_in(film.name))


def split_name(name: str) -> tuple[str | None, int | None]:
    """Return the title and year in the name of a folder or file.

    >>> split_name("The General (1926) [imdbid-tt0017925]"), split_name("The.General")
    (('The General', 1926), ('The General', None))
    """
    match = TITLE_YEAR.match(name) or SCENE_NAME.fullmatch(name)
    title, year = (match["title"], int(match["year"])) if match else (re.sub(r"[\[{].*?[\]}]", "", name), None)
    if " " not in title:
        title = title.replace(".", " ").replace("_", " ")
    return title.strip(" -") or None, year


def _read(film: LibraryFilm, path: Path) -> LibraryFilm:
    with open_file(path) as handle:
        status = os.fstat(handle.fileno())
        content = handle.read(min(MAX_BYTES, status.st_size) + 1)
    nfo = read_nfo(content)
    title, year = (nfo.title, nfo.year) if nfo.title and nfo.year else split_name(film.name)
    # A rename would replace a file that this user may not write; for root, who may write any, its mode counts.
    writable = status.st_mode & 0o222 and os.access(path, os.W_OK)
    known = asdict(nfo) | {
        "title": nfo.title or title,
        "year": nfo.year or year,
        "locked": nfo.locked or (None if writable else "its .nfo is write-protected"),
        "ids": {**_ids_in(film.name), **nfo.ids},
    }
    return replace(film, **known, nfo=path, sha256=hashlib.sha256(content).hexdigest(), links=status.st_nlink)


def _ids_in(name: str) -> dict[str, str]:
    return {match["kind"].lower(): match["id"] for match in ID_IN_NAME.finditer(name)}


def _walk(folder: str, seen: set[str], links: list[str]) -> Iterator[LibraryFilm]:
    """Yield the films in `folder` and below it; add the linked folders to `links`."""
    real = os.path.realpath(folder)
    # "." and ".." stand for the real name; the root of a disk has none.
    name = Path(folder).name
    waiting = [(folder, real, name if name not in ("", "..") else Path(real).name)]
    while waiting:
        path, real, title = waiting.pop()
        if real in seen:
            continue
        is_root = not seen
        seen.add(real)
        try:
            folders, files = _list(path)
        except OSError as error:
            problem = f"the folder cannot be listed ({error.strerror or error})"
            yield LibraryFilm(name=title, new_nfo=Path(path), problem=problem)
            continue
        if ".ignore" in files or ".nomedia" in files or "tvshow.nfo" in files:
            continue
        disc = _is_disc(folders, files)
        inner = _inner_folders(folders, files, disc) if folders else []
        disc = disc or any(DISC_NUMBER.fullmatch(entry.name.lower()) for entry in inner)
        extras = PERHAPS_EXTRAS if disc or _videos(files) else ()
        deeper = [
            entry
            for entry in folders
            if entry not in inner and entry.name.lower() not in extras and _may_hold_films(entry.name.lower(), disc)
        ]
        library = is_root and bool(deeper) and "movie.nfo" not in files and not TITLE_YEAR.match(title)
        yield from _films_in(Path(path), title, files, disc, library=library)
        links += [entry.path for entry in deeper if entry.is_symlink()]
        waiting += [
            (entry.path, f"{real}{os.sep}{entry.name}", entry.name)
            for entry in reversed(deeper)
            if not entry.is_symlink()
        ]


def _list(path: str) -> tuple[list[os.DirEntry[str]], dict[str, str]]:
    """Return a folder's subfolders, sorted, and its files, from lower-case name to name."""
    folders, files = [], {}
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                is_folder = entry.is_dir()
            except OSError:
                continue  # a link that leads back to itself
            if is_folder:
                folders.append(entry)
            else:
                files[entry.name.lower()] = entry.name
    folders.sort(key=lambda entry: entry.name)
    return folders, files


def _is_disc(folders: Iterable[os.DirEntry[str]], files: Iterable[str]) -> bool:
    return any(map(DISC_FILE.fullmatch, files)) or any(entry.name.lower() in DISCS for entry in folders)


def _may_hold_films(name: str, disc: bool) -> bool:
    skipped = name.startswith(".") or name in NO_FILMS or name in DISCS or SEASON.fullmatch(name)
    return not (skipped or (disc and name in DISC_PARTS))


def _inner_folders(folders: Sequence[os.DirEntry[str]], files: dict[str, str], disc: bool) -> list[os.DirEntry[str]]:
    """Find the subfolders that belong to a folder's films, and add their NFO files and pictures to `files`.

    These are a disc's folder, folders with only NFO files or posters, and "Disc 1" and "Disc 2" of one film. `files`
    maps lower-case names to paths.
    """
    videos = bool(_videos(files))
    found: dict[os.DirEntry[str], dict[str, str]] = {}
    numbered: dict[os.DirEntry[str], dict[str, str]] = {}
    others = 0
    for entry in folders:
        name = entry.name.lower()
        may_be_part = not videos and not disc and DISC_NUMBER.fullmatch(name) is not None
        if not (may_be_part or name in COMPANIONS or name in DISCS) or entry.is_symlink():
            others += name not in PERHAPS_EXTRAS and _may_hold_films(name, disc)
            continue
        try:
            inner_folders, inner = _list(entry.path)
        except OSError:
            continue
        count = len(_videos(inner))
        if name in DISCS:
            found[entry] = {nfo: path for nfo, path in inner.items() if nfo == DISCS[name]}
        elif may_be_part and (count == 1 or _is_disc(inner_folders, inner)):
            numbered[entry] = inner
        elif not count and not inner_folders:
            found[entry] = inner
        else:
            others += 1
    # With several NFO files, or next to other films, they are films of their own, such as a box set.
    if not others and sum(any(name.endswith(".nfo") for name in inner) for inner in numbered.values()) <= 1:
        found |= numbered
    elif not videos and not disc:
        return []
    for entry, inner in found.items():
        for name, path in inner.items():
            if name.endswith(".nfo") or name.rpartition(".")[2] in PICTURES:
                files.setdefault(name, f"{entry.name}/{path}")
    return list(found)


def _films_in(base: Path, title: str, files: Mapping[str, str], disc: bool, *, library: bool) -> Iterator[LibraryFilm]:
    """Yield the films among the files of a folder named `title`; `library` if its subfolders hold the other films."""
    nfos = [name for name in sorted(files) if name.endswith(".nfo") and name[0] != "." and not OTHER_NFO.match(name)]
    videos = [name for name in _videos(files) if not DISC_FILE.fullmatch(name)]
    if not nfos and not disc and not videos:
        return
    pictures = _pictures(files)
    films = {} if disc else _films_of(videos, files, pictures)
    stems = [stem for group in films.values() for stem in group]

    def existing(*candidates: str) -> tuple[Path, ...]:
        return tuple(base / files[name] for name in dict.fromkeys(candidates) if name in files)

    described = {name[:-4] for name in nfos}
    sure = disc or (not films and "movie" in described)
    if _is_one_film(title.lower(), films.keys() or described, sure, library):
        named = existing("movie.nfo", *(f"{stem}.nfo" for stem in (*stems, *films, title.lower())), *DISCS.values())
        found = named or existing(*nfos)
        poster = _poster(base, pictures, [*stems, *films, *(path.stem.lower() for path in found)], alone=True)
        video = base if disc or videos else None
        yield LibraryFilm(name=title, nfos=found, new_nfo=base / "movie.nfo", poster=poster, video=video)
        return
    for stem, group in films.items():
        video = base / next(files[video] for video in videos if video.rpartition(".")[0] == group[0])
        own = video.stem[: len(stem)]
        found = existing(*(f"{name}.nfo" for name in (*group, stem)))
        poster = _poster(base, pictures, [*group, stem], alone=False)
        yield LibraryFilm(name=own, nfos=found, new_nfo=base / f"{own}.nfo", poster=poster, video=video)
    for name in sorted(described.difference(films, stems)):
        path = base / files[f"{name}.nfo"]
        if name == "movie" and films:
            reason = f"{path.name} next to several films, where media servers ignore it"
            yield LibraryFilm(name=path.stem, nfos=(path,), new_nfo=path, skipped=reason)
        else:
            poster = _poster(base, pictures, [name], alone=False)
            yield LibraryFilm(name=path.stem, nfos=(path,), new_nfo=path, poster=poster)


def _videos(names: Iterable[str]) -> list[str]:
    """Return the lower-case names of videos that are not extras, sorted."""
    pairs = (name.rpartition(".") for name in sorted(names))
    return [
        f"{stem}.{extension}"
        for stem, _, extension in pairs
        if extension in VIDEOS and stem and stem[0] != "." and not EXTRA_VIDEO.search(stem)
    ]


def _films_of(videos: Sequence[str], files: Mapping[str, str], pictures: Mapping[str, str]) -> dict[str, list[str]]:
    """Group videos into films: from the name that a film's parts share to the parts' names, without extensions.

    Parts are numbered from 1, or lettered from a. "Part 1" and "Part 2" that each have a poster or an NFO are two
    films; discs are always one.
    """
    stems = list(dict.fromkeys(video.rpartition(".")[0] for video in videos))
    parts: dict[str, dict[str, re.Match[str]]] = {}
    for stem in stems:
        if match := PART.search(stem):
            parts.setdefault(stem[: match.start()], {})[stem] = match
    films: dict[str, list[str]] = {}
    for stem in stems:
        match = PART.search(stem)
        whole = stem[: match.start()] if match else stem
        siblings = parts.get(whole, {})
        if match is None or whole in stems or not {"1", "01", "a"} & {part["number"] for part in siblings.values()}:
            films.setdefault(stem, []).append(stem)
            continue
        is_disc = match["word"] not in ("part", "pt")
        own = [name for name in siblings if f"{name}.nfo" in files or {name, f"{name}-poster"} & pictures.keys()]
        together = is_disc or (len(siblings) > 1 and len(own) < 2)
        films.setdefault(whole if together else stem, []).append(stem)
    return films


def _is_one_film(title: str, stems: Collection[str], sure: bool, library: bool) -> bool:
    """Return True if a folder holds one film: a disc, one video, or versions named like the folder."""
    if not title:
        return False  # a whole disk
    if sure or (len(stems) <= 1 and not library):
        return True
    if all(stem.startswith(title) and VERSION.match(stem[len(title) :]) for stem in stems):
        return True
    key = _key(title)
    return TITLE_YEAR.match(title) is not None and all(f"{_key(stem)} ".startswith(f"{key} ") for stem in stems)


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip()


def _pictures(files: Mapping[str, str]) -> dict[str, str]:
    """Return the pictures in a folder, from lower-case name without extension to name."""
    pictures: dict[str, str] = {}
    for name, real in files.items():
        stem, _, extension = name.rpartition(".")
        if extension in PICTURES and stem[:1] != ".":  # macOS adds a ._poster.jpg that is no picture
            pictures[stem] = min(real, pictures.get(stem, real))
    return pictures


def _poster(folder: Path, pictures: Mapping[str, str], stems: Sequence[str], *, alone: bool) -> Path | None:
    """Return a film's poster by the film's names, or if it is alone in its folder also `poster`, `folder` and so on."""
    stems = list(dict.fromkeys(stems))
    shared = ("poster", "folder", "cover") if alone else ()
    own = (*(f"{stem}-poster" for stem in stems), *(("movie-poster", "movie") if alone else ()), *stems)
    others = sorted(name for name in pictures if name.endswith("-poster")) if alone else ()
    return next((folder / pictures[name] for name in (*shared, *own, *others) if name in pictures), None)
