"""Label sets and the spellings of genres.

Each genre has one canonical spelling; the spellings of catalogues are its aliases. `canonical` turns an alias into the
canonical spelling; `mmgcs.library` does the reverse, for a catalogue's names or the user's own.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

TEN_GENRES = (
    "Action", "Animation", "Comedy", "Crime", "Documentary", "Drama", "Horror", "Music", "Romance", "Thriller",
)  # fmt: skip
"""The ten genres of the original system."""

TMDB_GENRES = (
    "Action", "Adventure", "Animation", "Comedy", "Crime", "Documentary", "Drama", "Family", "Fantasy", "History",
    "Horror", "Music", "Mystery", "Romance", "Science Fiction", "TV Movie", "Thriller", "War", "Western",
)  # fmt: skip
"""The nineteen film genres of The Movie Database, in its spelling, which is also the canonical one."""

DEFAULT_GENRES = tuple(genre for genre in TMDB_GENRES if genre != "TV Movie")
"""The eighteen genres of the default model: TMDB's film genres without TV Movie, which is a format."""

IMDB_GENRES = (
    "Action", "Adult", "Adventure", "Animation", "Biography", "Comedy", "Crime", "Documentary", "Drama", "Family",
    "Fantasy", "Film-Noir", "Game-Show", "History", "Horror", "Music", "Musical", "Mystery", "News", "Reality-TV",
    "Romance", "Sci-Fi", "Short", "Sport", "Talk-Show", "Thriller", "War", "Western",
)  # fmt: skip
"""IMDb's genres in its own spelling."""

MMIMDB_GENRES = (
    "Action", "Adventure", "Animation", "Biography", "Comedy", "Crime", "Documentary", "Drama", "Family", "Fantasy",
    "Film-Noir", "History", "Horror", "Music", "Musical", "Mystery", "Romance", "Sci-Fi", "Short", "Sport",
    "Thriller", "War", "Western",
)  # fmt: skip
"""The twenty-three genres of MM-IMDb (Arevalo et al. 2017), which spells as IMDb does."""

KODI_GENRES = (*TMDB_GENRES, "Musical", "Film Noir", "Sport", "Short", "Biography")
"""What Kodi's and Jellyfin's scrapers write: TMDB's names, and some of IMDb's, with spaces."""

LABEL_SETS: Mapping[str, tuple[str, ...]] = {
    "default": DEFAULT_GENRES,
    "ten": TEN_GENRES,
    "tmdb": TMDB_GENRES,
    "imdb": IMDB_GENRES,
    "mmimdb": MMIMDB_GENRES,
    "kodi": KODI_GENRES,
}

# Canonical name to other spellings, in English and in TMDB's German, French, Spanish, Italian, Portuguese and Dutch.
# Case, accents, hyphens, dots and spaces are ignored, and so are "movies", "films" and the like at the end.
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "Action": ("Acción", "Azione", "Ação", "Actie"),
    "Adventure": ("Adventures", "Abenteuer", "Aventure", "Aventura", "Avventura", "Avontuur"),
    "Animation": ("Animated", "Anime", "Cartoon", "Cartoons", "Animations", "Zeichentrick", "Trickfilm",
                  "Animación", "Animazione", "Animação", "Animatie"),
    "Biography": ("Biographical", "Biopic", "Biografie", "Biographie"),
    "Comedy": ("Comedies", "Komödie", "Komödien", "Comédie", "Comedia", "Commedia", "Komedie"),
    "Crime": ("Krimi", "Kriminal", "Policier", "Crimen", "Misdaad"),
    "Documentary": ("Documentaries", "Docu", "Doku", "Docuseries", "Documentation", "Dokumentation", "Dokumentar",
                    "Documentaire", "Documental", "Documentario"),
    "Drama": ("Dramas", "Drame", "Dramma"),
    "Family": ("Kids", "Children", "Children's", "Kids & Family", "Children & Family", "Family & Kids", "Familie",
               "Familien", "Kinder", "Familial", "Famille", "Familia", "Famiglia", "Família", "Per famiglie"),
    "Fantasy": ("Fantastique", "Fantasía", "Fantasia", "Fantastico", "Fantasie"),
    "Film Noir": ("Noir",),
    "Game Show": (),
    "History": ("Historical", "Historie", "Historien", "Geschichte", "Histoire", "Historique", "Historia", "Storia",
                "Storico", "Historisch"),
    "Horror": ("Horreur", "Épouvante-horreur", "Terror"),
    "Music": ("Concert", "Music & Concert", "Music & Musical", "Music & Musicals", "Musik", "Musique", "Música",
              "Musica", "Muziek"),
    "Musical": ("Musicals",),
    "Mystery": ("Mysteries", "Mystère", "Misterio", "Mistero", "Mistério", "Mysterie"),
    "News": (),
    "Reality TV": ("Reality",),
    "Romance": ("Romantic", "Liebe", "Liebes", "Romantik", "Romanze", "Sentimentale", "Romantiek", "Romantisch"),
    "Science Fiction": ("Sci-Fi", "SF", "SciFi", "Ciencia ficción", "Fantascienza", "Ficção científica"),
    "Short": ("Shorts", "Kurzfilm"),
    "Sport": ("Sports",),
    "TV Movie": ("Television Movie", "TV Film", "Fernsehfilm", "Téléfilm", "Película de TV", "Televisione film",
                 "Cinema TV"),
    "Talk Show": ("Talk",),
    "Thriller": ("Thrillers", "Suspense", "Mystery & Thriller"),
    "War": ("War & Military", "Krieg", "Kriegs", "Antikriegs", "Guerre", "Bélica", "Bélico", "Guerra", "Oorlog"),
    "Western": ("Westerns", "Faroeste"),
}  # fmt: skip

# Names that stand for two genres.
_DOUBLE: Mapping[str, tuple[str, ...]] = {
    "actionadventure": ("Action", "Adventure"),
    "scififantasy": ("Science Fiction", "Fantasy"),
    "sciencefictionfantasy": ("Science Fiction", "Fantasy"),
    "warpolitics": ("War", "Politics"),
    "romanticcomedy": ("Romance", "Comedy"),
    "liebeskomodie": ("Romance", "Comedy"),
}

MAX_GENRES = 200
"""The most genres that are read from one value."""

_QUOTED = re.compile(r"['\"]([^'\"]+)['\"]")
_UNSEPARATED = re.compile(r"'\s+'|\"\s+\"")
_IGNORED = re.compile(r"[\s\-_.&+'’]+")
_SEPARATORS = ("|", " / ", ";", ",", "/")
NO_GENRES = frozenset({"", "none", "null", "nan", "n/a", "na", "[]", "{}", "\\n", "(no genres listed)", "unknown"})
"""What catalogues write, in lower case, for a film without genres."""
_KIND_OF_FILM = re.compile(r"(movies?|films?|features?|filme|series)$")


def _key(name: str) -> str:
    plain = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    return _IGNORED.sub("", plain).casefold()


_CANONICAL: dict[str, str] = {
    _key(spelling): name for name, others in _ALIASES.items() for spelling in (name, *others)
} | {_key(name): name for name in TMDB_GENRES}


def canonical(name: str) -> str:
    """Return the canonical spelling of a genre; an unknown genre keeps its own spelling, trimmed.

    >>> canonical("sci-fi"), canonical("FILM-NOIR"), canonical("Komödie"), canonical(" Kaiju ")
    ('Science Fiction', 'Film Noir', 'Comedy', 'Kaiju')
    """
    trimmed = " ".join(name.split())
    key = _key(trimmed)
    return _CANONICAL.get(key) or _CANONICAL.get(_KIND_OF_FILM.sub("", key)) or trimmed


def genre_set(name: str) -> tuple[str, ...]:
    """Return a label set by name, or the genres in a list such as "Drama,Sci-Fi".

    >>> genre_set("Drama,Sci-Fi")
    ('Drama', 'Science Fiction')
    """
    return LABEL_SETS[name] if name in LABEL_SETS else parse_genres(name)


def within(names: Sequence[str], genres: Sequence[str]) -> tuple[str, ...]:
    """Return the names that are in a label set, each once. A set without musicals counts them as music.

    >>> within(("Musical", "Sport", "Drama"), ("Drama", "Music"))
    ('Music', 'Drama')
    """
    mapped = ("Music" if name == "Musical" and name not in genres else name for name in names)
    return tuple(dict.fromkeys(name for name in mapped if name in genres))


def unfamiliar(names: Iterable[str], genres: Sequence[str]) -> dict[str, str | None]:
    """Return the names that neither the label set nor any catalogue has, with the nearest name in the set.

    >>> unfamiliar(["Horor", "Sport", "Drama"], ("Drama", "Horror"))
    {'Horor': 'Horror'}
    """
    found: dict[str, str | None] = {}
    for name in names:
        if name not in genres and name not in _ALIASES and name not in found:
            nearest = difflib.get_close_matches(name, genres, n=1, cutoff=0.75)
            found[name] = nearest[0] if nearest else None
    return found


def parse_genres(value: Any) -> tuple[str, ...]:
    """Parse a catalogue's genres. Returns their canonical spellings, each once, in order.

    Reads `A|B`, `A / B`, `A, B`, a JSON list, a Python-style list, TMDB's list of objects with a `name` (JSON or
    Python-style), and Python lists of either. Never raises: anything that is not a list is read as names.

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
    if depth > 4 or value is None:
        return []
    if isinstance(value, str):
        return _names_in_text(value[:20_000].strip(), depth)  # anything longer is no list of genres
    if isinstance(value, Mapping):
        return _names(value.get("name", value.get("genres")), depth + 1)
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
        return [name for item in list(value)[:MAX_GENRES] for name in _names(item, depth + 1)]
    return []


def _names_in_text(text: str, depth: int) -> list[str]:
    if text.lower() in NO_GENRES:
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
    try:
        # Literals only, nothing is called; the length is bounded above, and Python's parser bounds the depth.
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _split(text: str) -> list[str]:
    for separator in _SEPARATORS:
        if separator in text:
            return [name for part in text.split(separator) for name in _split(part.strip(" '\"")) if part.strip(" '\"")]
    text = text.strip()
    return [text] if len(text) <= 80 and text.lower() not in NO_GENRES else []  # anything longer is prose
