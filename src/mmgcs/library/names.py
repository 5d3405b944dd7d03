"""The user's own names of genres: a known catalogue's, German ones, or a table of their own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from mmgcs.errors import UsageError
from mmgcs.genres import LABEL_SETS, TMDB_GENRES, canonical, parse_genres
from mmgcs.library.nfo import NOT_XML, SEPARATORS
from mmgcs.library.spreadsheet import read_cells

GERMAN = (
    *("Action", "Abenteuer", "Animation", "Komödie", "Krimi", "Dokumentarfilm", "Drama", "Familie", "Fantasy"),
    *("Historie", "Horror", "Musik", "Mystery", "Liebesfilm", "Science Fiction", "TV-Film", "Thriller", "Kriegsfilm"),
    "Western",
)
"""TMDB's German names, in the order of `TMDB_GENRES`."""
BUILT_IN: Mapping[str, Mapping[str, str]] = {
    **{name: {canonical(genre): genre for genre in genres} for name, genres in LABEL_SETS.items()},
    "german": dict(zip(TMDB_GENRES, GERMAN, strict=True)),
}


class GenreNames:
    """Translates between our names of genres and the user's."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """Take a table from our names to the user's."""
        self._names = {canonical(ours): own for ours, own in names.items()}
        self._back = {own.casefold(): ours for ours, own in self._names.items()}

    def own(self, genre: str) -> str:
        """Return the user's name of a genre, or ours if the table lacks it."""
        return self._names.get(canonical(genre), genre)

    def meaning(self, genres: Iterable[str]) -> tuple[str, ...]:
        """Return our names of what the user's genres mean, each once.

        >>> GenreNames({"Crime": "Krimi"}).meaning(["krimi", "Sci-Fi"])
        ('Crime', 'Science Fiction')
        """
        found: dict[str, None] = {}
        for genre in genres:
            own = self._back.get(genre.casefold())
            found.update(dict.fromkeys([own] if own else parse_genres(genre)))
        return tuple(found)


def load_names(name: str | None) -> GenreNames:
    """Return the names of a known catalogue, or the ones in a file.

    Args:
        name: a key of `BUILT_IN`; or a JSON file with an object, or a CSV file with two columns, from our names to the
            user's; None for our own.

    Raises:
        UsageError: there is no such name and no such file, or the file is not a table of genres.
    """
    if name is None:
        return GenreNames({})
    if name in BUILT_IN:
        return GenreNames(BUILT_IN[name])
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"no genre names {name!r}; known: {', '.join(sorted(BUILT_IN))}, or a .json or .csv file")
    table = _from_json(path) if path.suffix.lower() == ".json" else _from_csv(path)
    for ours, own in table.items():
        if not own.strip() or SEPARATORS.search(own) or NOT_XML.search(own):
            raise UsageError(
                f"{path} names {ours} {own!r}; a name needs a letter and none of / , | ; nor a control character"
            )
    if not table:
        raise UsageError(f"{path} names no genre; give lines such as Crime,Krimi")
    return GenreNames(table)


def _from_json(path: Path) -> dict[str, str]:
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON ({error}); give an object of strings") from error
    if not isinstance(value, dict) or not all(isinstance(own, str) for own in value.values()):
        raise UsageError(f'{path} is not an object of strings, such as {{"Crime": "Krimi"}}')
    return {ours: own.strip() for ours, own in value.items()}


def _from_csv(path: Path) -> dict[str, str]:
    rows = [[cell.strip() for cell in row[:2]] for row in read_cells(path) if len(row) >= 2]
    headed = bool(rows) and rows[0][0].casefold() in ("genre", "canonical", "ours", "from")
    return {ours: own for ours, own in rows[1 if headed else 0 :] if ours}
