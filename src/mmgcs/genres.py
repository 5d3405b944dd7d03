"""Label sets and the spellings of genres.

A genre has one canonical spelling here; every catalogue's own spelling is an alias of it. `canonical` goes from a
catalogue to ours; `mmgcs.library.vocabulary` goes from ours to a catalogue's, or to the user's own.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

TEN_GENRES = (
    "Action",
    "Animation",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Horror",
    "Music",
    "Romance",
    "Thriller",
)
"""The ten genres of the original system."""

TMDB_GENRES = (
    "Action",
    "Adventure",
    "Animation",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Family",
    "Fantasy",
    "History",
    "Horror",
    "Music",
    "Mystery",
    "Romance",
    "Science Fiction",
    "TV Movie",
    "Thriller",
    "War",
    "Western",
)
"""The Movie Database's nineteen film genres, in its spelling, which is our canonical one."""

DEFAULT_GENRES = tuple(genre for genre in TMDB_GENRES if genre != "TV Movie")
"""The eighteen genres of the default model: TMDB's film genres without TV Movie, which is a format."""

IMDB_GENRES = (
    "Action",
    "Adult",
    "Adventure",
    "Animation",
    "Biography",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Family",
    "Fantasy",
    "Film-Noir",
    "Game-Show",
    "History",
    "Horror",
    "Music",
    "Musical",
    "Mystery",
    "News",
    "Reality-TV",
    "Romance",
    "Sci-Fi",
    "Short",
    "Sport",
    "Talk-Show",
    "Thriller",
    "War",
    "Western",
)
"""IMDb's genres in its own spelling."""

MMIMDB_GENRES = (
    "Action",
    "Adventure",
    "Animation",
    "Biography",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Family",
    "Fantasy",
    "Film-Noir",
    "History",
    "Horror",
    "Music",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Short",
    "Sport",
    "Thriller",
    "War",
    "Western",
)
"""The twenty-three genres of MM-IMDb (Arevalo et al. 2017), which spells as IMDb does."""

KODI_GENRES = (*TMDB_GENRES, "Musical", "Film Noir", "Sport", "Short", "Biography")
"""What Kodi's and Jellyfin's scrapers write: TMDB's names, and IMDb's further ones with spaces."""

LABEL_SETS: Mapping[str, tuple[str, ...]] = {
    "default": DEFAULT_GENRES,
    "ten": TEN_GENRES,
    "tmdb": TMDB_GENRES,
    "imdb": IMDB_GENRES,
    "mmimdb": MMIMDB_GENRES,
    "kodi": KODI_GENRES,
}

# Canonical name to other spellings. Case, hyphens, underscores, dots and spaces are ignored in any case.
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "Action": ("Action film", "Action movie"),
    "Adventure": ("Adventures",),
    "Animation": ("Animated", "Anime", "Cartoon", "Cartoons"),
    "Biography": ("Biographical", "Biopic"),
    "Comedy": ("Comedies",),
    "Crime": ("Crime film",),
    "Documentary": ("Documentaries", "Docu", "Documentation"),
    "Drama": ("Dramas",),
    "Family": ("Kids", "Children", "Children's", "Kids & Family", "Children & Family", "Family & Kids"),
    "Fantasy": (),
    "Film Noir": ("Noir",),
    "Game Show": (),
    "History": ("Historical",),
    "Horror": (),
    "Music": ("Concert", "Music & Concert"),
    "Musical": ("Musicals",),
    "Mystery": ("Mysteries",),
    "News": (),
    "Reality TV": ("Reality",),
    "Romance": ("Romantic", "Romance film"),
    "Science Fiction": ("Sci-Fi", "SF", "Science-Fiction", "SciFi", "Sci Fi"),
    "Short": ("Shorts", "Short Film"),
    "Sport": ("Sports",),
    "TV Movie": ("Television Movie", "TV Film"),
    "Talk Show": ("Talk",),
    "Thriller": ("Thrillers", "Suspense"),
    "War": ("War film",),
    "Western": ("Westerns",),
}

# TMDB's television genres that are two of its film genres in one name.
_DOUBLE: Mapping[str, tuple[str, ...]] = {
    "actionadventure": ("Action", "Adventure"),
    "scififantasy": ("Science Fiction", "Fantasy"),
    "sciencefictionfantasy": ("Science Fiction", "Fantasy"),
    "warpolitics": ("War", "Politics"),
    "romanticcomedy": ("Romance", "Comedy"),
}

MAX_LENGTH = 20_000
"""Characters of a genres value that are read; more is not a list of genres."""
MAX_GENRES = 200
MAX_NAME = 80
"""Characters of one genre's name; anything longer is prose or damage and no genre."""
_MAX_DEPTH = 4

_QUOTED = re.compile(r"['\"]([^'\"]+)['\"]")
_UNSEPARATED = re.compile(r"'\s+'|\"\s+\"")
_IGNORED = re.compile(r"[\s\-_.&+'’]+")
_SEPARATORS = ("|", " / ", ";", ",", "/")
_NOTHING = frozenset({"", "none", "null", "nan", "n/a", "na", "[]", "{}", "\\n", "(no genres listed)", "unknown"})


def _key(name: str) -> str:
    return _IGNORED.sub("", name).casefold()


_CANONICAL: dict[str, str] = {
    _key(spelling): name for name, others in _ALIASES.items() for spelling in (name, *others)
} | {_key(name): name for name in TMDB_GENRES}


def canonical(name: str) -> str:
    """Our spelling of a genre; a genre we do not know comes back with its own spelling, trimmed.

    >>> canonical("sci-fi"), canonical("FILM-NOIR"), canonical(" Kaiju ")
    ('Science Fiction', 'Film Noir', 'Kaiju')
    """
    trimmed = " ".join(name.split())
    return _CANONICAL.get(_key(trimmed), trimmed)


def parse_genres(value: Any) -> tuple[str, ...]:
    """The genres that a catalogue's value names, canonical, each once, in their order.

    Reads `A|B`, `A / B`, `A, B`, a JSON list, a Python-style list, TMDB's list of objects with a `name` (JSON or
    Python-style), and real lists of either. Never raises: what cannot be read as a list is read as names.

    >>> parse_genres("[{'id': 878, 'name': 'Science Fiction'}, {'id': 18, 'name': 'Drama'}]")
    ('Science Fiction', 'Drama')
    >>> parse_genres("Action & Adventure / Sci-Fi")
    ('Action', 'Adventure', 'Science Fiction')
    """
    names: list[str] = []
    for name in _names(value, 0):
        pair = _DOUBLE.get(_key(name))
        names.extend(pair if pair else [canonical(name)])
        if len(names) >= MAX_GENRES:
            break
    return tuple(dict.fromkeys(names))


def _names(value: Any, depth: int) -> list[str]:
    if depth > _MAX_DEPTH or value is None:
        return []
    if isinstance(value, str):
        return _names_in_text(value[:MAX_LENGTH].strip(), depth)
    if isinstance(value, Mapping):
        if "name" in value:
            return _names(value["name"], depth + 1)
        inner = value.get("genres")
        return _names(inner, depth + 1)
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
        return [name for item in list(value)[:MAX_GENRES] for name in _names(item, depth + 1)]
    return []


def _names_in_text(text: str, depth: int) -> list[str]:
    if text.lower() in _NOTHING:
        return []
    if text[0] in "[{(" and text[-1] in "]})":
        # Numpy prints ['Drama' 'War'] without commas, which Python would read as one name.
        literal = None if _UNSEPARATED.search(text) else _literal(text)
        if literal is not None and not isinstance(literal, str):
            return _names(literal, depth + 1)
        quoted = _QUOTED.findall(text)
        return quoted if quoted and "name" not in quoted else _split(text[1:-1])
    return _split(text)


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if _deepest(text) > _MAX_DEPTH:
        return None
    try:
        # Literals only, nothing is called; length and depth are bounded above.
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _deepest(text: str) -> int:
    deepest = depth = 0
    for character in text:
        depth += (character in "[{(") - (character in "]})")
        deepest = max(deepest, depth)
    return deepest


def _split(text: str) -> list[str]:
    # A known name that holds a separator ("Game/Show") would be whole before it is cut.
    if _key(text) in _CANONICAL:
        return [text]
    for separator in _SEPARATORS:
        if separator in text:
            return [name for part in text.split(separator) for name in _split(part.strip(" '\"")) if part.strip(" '\"")]
    text = text.strip()
    return [text] if len(text) <= MAX_NAME and text.lower() not in _NOTHING else []
