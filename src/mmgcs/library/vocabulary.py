"""The user's own spelling of genres: a known catalogue's, or a table of their own."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from mmgcs.errors import UsageError
from mmgcs.genres import LABEL_SETS, canonical, parse_genres
from mmgcs.library.nfo import NOT_XML, SEPARATORS


class Vocabulary:
    """Goes from our spelling of a genre to the user's and back."""

    def __init__(self, spellings: Mapping[str, str]) -> None:
        """Take a table from our spelling to the user's."""
        self._spellings = {canonical(ours): own for ours, own in spellings.items()}
        self._back = {own.casefold(): ours for ours, own in self._spellings.items()}

    def spell(self, genre: str) -> str:
        """The user's spelling; ours for a genre that the vocabulary lacks."""
        return self._spellings.get(canonical(genre), genre)

    def meaning(self, genres: Iterable[str]) -> tuple[str, ...]:
        """Our spelling of what the user's genres mean, each once.

        >>> Vocabulary({"Crime": "Krimi"}).meaning(["krimi", "Sci-Fi"])
        ('Crime', 'Science Fiction')
        """
        found: dict[str, None] = {}
        for genre in genres:
            own = self._back.get(genre.casefold())
            found.update(dict.fromkeys([own] if own else parse_genres(genre)))
        return tuple(found)


def load_vocabulary(name: str | None) -> Vocabulary:
    """The vocabulary with a built-in name, or the one in a file.

    Args:
        name: "tmdb", "imdb", "mmimdb" or "kodi"; or a JSON file with an object, or a CSV file with two columns, from
            our spelling to the user's; None for our own spelling.

    Raises:
        UsageError: there is neither such a name nor such a file, or the file is not a table of genres.
    """
    if name is None:
        return Vocabulary({})
    if name in LABEL_SETS:
        return Vocabulary({canonical(genre): genre for genre in LABEL_SETS[name]})
    path = Path(name)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        known = ", ".join(sorted(LABEL_SETS))
        raise UsageError(f"there is no vocabulary {name!r}; known: {known}, or a .json or .csv file") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"the vocabulary {path} cannot be read ({error}); give a UTF-8 file") from error
    table = _from_csv(text) if path.suffix.lower() == ".csv" else _from_json(text, path)
    for ours, own in table.items():
        if not own.strip() or SEPARATORS.search(own) or NOT_XML.search(own):
            raise UsageError(
                f"the vocabulary {path} spells {ours} as {own!r}; a spelling needs a letter and none of / , | ; "
                f"nor a control character"
            )
    if not table:
        raise UsageError(f"the vocabulary {path} names no genre; give lines such as Crime,Krimi")
    return Vocabulary(table)


def _from_json(text: str, path: Path) -> dict[str, str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the vocabulary {path} is not JSON ({error}); give an object of strings") from error
    if not isinstance(value, dict) or not all(isinstance(own, str) for own in value.values()):
        raise UsageError(f'the vocabulary {path} is not an object of strings, such as {{"Crime": "Krimi"}}')
    return {ours: own.strip() for ours, own in value.items()}


def _from_csv(text: str) -> dict[str, str]:
    rows = [[cell.strip() for cell in row[:2]] for row in csv.reader(io.StringIO(text)) if len(row) >= 2]
    headed = bool(rows) and rows[0][0].casefold() in ("genre", "canonical", "ours", "from")
    return {ours: own for ours, own in rows[1 if headed else 0 :] if ours}
