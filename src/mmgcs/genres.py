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
from itertools import chain
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
# Case, accents, hyphens, dots and spaces are ignored, and so are a plural "s" and words such as "movies" and "TV".
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "Action": ("Acción", "Azione", "Ação", "Acção", "Actie"),
    "Adult": (),
    "Adventure": ("Abenteuer", "Aventure", "Aventura", "Avventura", "Avontuur"),
    "Animation": ("Animated", "Anime", "Cartoon", "Zeichentrick", "Trickfilm", "Animación", "Animazione", "Animação",
                  "Animato", "Animatie", "Dessin animé", "Dibujos animados", "Desenho animado", "Tekenfilm"),
    "Biography": ("Biographical", "Biopic", "Biografie", "Biographie", "Biografía", "Biográfico"),
    "Comedy": ("Comedies", "Stand-Up Comedy", "Komödie", "Komödien", "Comédie", "Comedia", "Commedia",
               "Commedie", "Komedie"),
    "Crime": ("Krimi", "Kriminal", "Policier", "Crimen", "Policial", "Policíaco", "Poliziesco", "Misdaad"),
    "Documentary": ("Documentaries", "Docu", "Doku", "Documentation", "Dokumentation", "Dokumentar", "Documentaire",
                    "Documental", "Documentales", "Documentario", "Documentari"),
    "Drama": ("Dramatic", "Dramen", "Drame", "Dramatique", "Dramático", "Dramma", "Drammatico"),
    "Family": ("Kid", "Children", "Familie", "Familien", "Kinder", "Familial", "Familiale", "Famille", "Enfants",
               "Pour enfants", "Jeunesse", "Familia", "Familiar", "Infantil", "Niños", "Crianças",
               "Para toda a família", "Famiglia", "Per famiglie", "Bambini", "Ragazzi", "Kinderen", "Jeugd"),
    "Fantasy": ("Fantastique", "Fantasía", "Fantasia", "Fantastico", "Fantasie"),
    "Film Noir": ("Noir", "Cine negro"),
    "Game Show": (),
    "History": ("Historical", "Historie", "Historien", "Geschichte", "Histoire", "Historique", "Historia", "Histórico",
                "Histórica", "Storia", "Storico", "Historisch", "Geschiedenis"),
    "Horror": ("Horreur", "Épouvante", "Épouvante-horreur", "Terror", "Grusel", "Griezel"),
    "Music": ("Concert", "Music & Musical", "Musik", "Musik & Musical", "Musique", "Música", "Musica", "Muziek"),
    "Musical": ("Filmmusical", "Comédie musicale", "Musicale"),
    "Mystery": ("Mysteries", "Mystère", "Misterio", "Intriga", "Mistero", "Mistério", "Mysterie"),
    "News": (),
    "Politics": ("Politik", "Politique", "Política", "Politica", "Politiek"),
    "Reality TV": ("Reality",),
    "Romance": ("Romantic", "Liebe", "Romantik", "Romanze", "Romantique", "Romántico", "Romántica", "Sentimental",
                "Sentimentale", "Romantiek", "Romantisch", "Romantische"),
    "Science Fiction": ("Sci-Fi", "SF", "Ciencia ficción", "Fantascienza", "Ficção científica"),
    "Short": ("Kurzfilm", "Court métrage", "Cortometraje", "Cortometraggio", "Curta-metragem", "Korte film"),
    "Sport": ("Deporte", "Esporte", "Desporto", "Sportivo"),
    "TV Movie": ("TV Movies", "Television Movie", "TV Film", "Made for TV", "Fernsehfilm", "Téléfilm", "Telefilme",
                 "Película de TV", "Película de la televisión", "Televisione film", "Film TV", "Filme de TV",
                 "Cinema TV", "Televisiefilm"),
    "Talk Show": ("Talk",),
    "Thriller": ("Suspense", "Suspenso", "Mystery & Thriller"),
    "War": ("Military", "Krieg", "Antikrieg", "Militär", "Guerre", "Militaire", "Bélica", "Bélico", "Bellico", "Guerra",
            "Militare", "Oorlog", "Militair"),
    "Western": ("Oeste", "Faroeste"),
}  # fmt: skip

# Names that stand for two genres. "Sci-Fi & Fantasy" is split at the "&" and needs no entry.
_PAIRS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("Action", "Adventure"): ("Action-Adventure",),
    ("Comedy", "Drama"): ("Comedy-Drama", "Dramedy", "Tragikomödie", "Comédie dramatique", "Commedia drammatica",
                          "Comedia dramática", "Tragicomedia", "Tragikomedie"),
    ("Romance", "Comedy"): ("Romantic comedy", "Rom-com", "Liebeskomödie", "Romantische Komödie", "Comédie romantique",
                            "Comedia romántica", "Commedia romantica", "Romantische komedie"),
}  # fmt: skip

MAX_GENRES = 200
"""The most genres that are read from one value."""

_QUOTED = re.compile(r"['\"]([^'\"]+)['\"]")
_UNSEPARATED = re.compile(r"'\s+'|\"\s+\"")
_IGNORED = re.compile(r"[\s\-_.&+'’]+")
_SEPARATORS = ("|", " / ", ";", ",", "/")
NO_GENRES = frozenset({"", "none", "null", "nan", "n/a", "na", "[]", "{}", "\\n", "(no genres listed)", "unknown"})
"""What catalogues write, in lower case, for a film without genres."""
_KIND_OF_FILM = re.compile(r"^tv|s?(movies?|films?|features?|filme|series|tv|tvshows?)$|s$")
_AND = re.compile(r"\s*[&+]\s*|\s+(?:and|und|et|y|e|en)\s+", re.IGNORECASE)


def _key(name: str) -> str:
    plain = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    return _IGNORED.sub("", plain).casefold()


_MEANINGS: dict[str, tuple[str, ...]] = {
    _key(spelling): (name,) for name, others in _ALIASES.items() for spelling in (name, *others)
} | {_key(spelling): pair for pair, spellings in _PAIRS.items() for spelling in spellings}


def _meaning(name: str) -> tuple[str, ...]:
    """Return the canonical genre or genres that a name stands for; none for an unknown name."""
    key = _key(name)
    if found := _MEANINGS.get(key) or _MEANINGS.get(_KIND_OF_FILM.sub("", key)):
        return found
    parts = _AND.split(name)
    meanings = [_meaning(part) for part in parts] if len(parts) > 1 else []
    return tuple(dict.fromkeys(chain.from_iterable(meanings))) if all(meanings) else ()


def canonical(name: str) -> str:
    """Return the canonical spelling of a genre; an unknown genre keeps its own spelling, trimmed.

    >>> canonical("sci-fi"), canonical("FILM-NOIR"), canonical("Komödie"), canonical(" Kaiju ")
    ('Science Fiction', 'Film Noir', 'Comedy', 'Kaiju')
    """
    meaning = _meaning(name)
    return meaning[0] if len(meaning) == 1 else " ".join(name.split())


def genre_set(name: str) -> tuple[str, ...]:
    """Return a label set by name, or the genres in a list such as "Drama,Sci-Fi".

    >>> genre_set("Drama,Sci-Fi")
    ('Drama', 'Science Fiction')
    """
    return LABEL_SETS.get(name.strip().lower()) or parse_genres(name)


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
        names.extend(_meaning(name) or [canonical(name)])
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
