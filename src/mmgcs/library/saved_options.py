"""A library's options, saved in `.mmgcs/settings.toml`, and the user's own names for genres."""

from __future__ import annotations

import csv
import io
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mmgcs.errors import UsageError
from mmgcs.files import atomic_writer, decode_text
from mmgcs.genres import LABEL_SETS, TMDB_GENRES, canonical, parse_genres
from mmgcs.library.nfo import NOT_XML, SEPARATORS
from mmgcs.library.undo import STATE
from mmgcs.wording import refusals

FORMULA = ("=", "+", "-", "@", "'")
"""First characters of cells that a spreadsheet would read as a formula."""
TRANSLATIONS = {
    "dutch": "Actie,Avontuur,Animatie,Komedie,Misdaad,Documentaire,Drama,Familie,Fantasie,Historisch,Horror,Muziek,"
    "Mysterie,Romantiek,Sciencefiction,TV film,Thriller,Oorlog,Western",
    "french": "Action,Aventure,Animation,Comédie,Crime,Documentaire,Drame,Familial,Fantastique,Histoire,Horreur,"
    "Musique,Mystère,Romance,Science-Fiction,Téléfilm,Thriller,Guerre,Western",
    "german": "Action,Abenteuer,Animation,Komödie,Krimi,Dokumentarfilm,Drama,Familie,Fantasy,Historie,Horror,Musik,"
    "Mystery,Liebesfilm,Science Fiction,TV-Film,Thriller,Kriegsfilm,Western",
    "italian": "Azione,Avventura,Animazione,Commedia,Crime,Documentario,Dramma,Famiglia,Fantasy,Storia,Horror,Musica,"
    "Mistero,Romance,Fantascienza,televisione film,Thriller,Guerra,Western",
    "portuguese": "Ação,Aventura,Animação,Comédia,Crime,Documentário,Drama,Família,Fantasia,História,Terror,Música,"
    "Mistério,Romance,Ficção científica,Cinema TV,Thriller,Guerra,Faroeste",
    "spanish": "Acción,Aventura,Animación,Comedia,Crimen,Documental,Drama,Familia,Fantasía,Historia,Terror,Música,"
    "Misterio,Romance,Ciencia ficción,Película de TV,Suspense,Bélica,Western",
}
"""TMDB's names in other languages, in the order of `TMDB_GENRES`."""
NAMES: Mapping[str, Mapping[str, str]] = {
    **{name: {canonical(genre): genre for genre in genres} for name, genres in LABEL_SETS.items()},
    **{name: dict(zip(TMDB_GENRES, genres.split(","), strict=True)) for name, genres in TRANSLATIONS.items()},
}
"""The catalogues and languages whose names can be used: from our names of genres to theirs."""


class LibrarySettings(BaseModel):
    """What to write to a library's NFO files.

    Attributes:
        mode: "only-missing" fills in films without genres, "add" adds to the existing ones, "replace" replaces the
            ones that the model knows and keeps the others.
        min_confidence: see `Prediction.reaches`; None for the bundle's own threshold.
        max_genres: the most genres a film may have after a change; existing ones are never dropped. None for no limit.
        exclude: genres that are neither written nor removed.
        create_nfo: create an NFO for films without one.
        element: the NFO's element, "genre" or "tag".
        names: the user's names for genres, as `load_names` takes them.
        enrich: the service that looks up missing plots and posters; None for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["only-missing", "add", "replace"] = "only-missing"
    min_confidence: float | None = Field(default=None, ge=0, le=1)
    max_genres: int | None = Field(default=None, ge=1)
    exclude: tuple[str, ...] = ()
    create_nfo: bool = False
    element: Literal["genre", "tag"] = "genre"
    names: str | None = None
    enrich: str | None = None


def load_library_settings(root: Path) -> LibrarySettings:
    """Return the settings of the library in the folder `root`; the defaults if it has no file.

    Raises:
        UsageError: the file cannot be read, or is not valid.
    """
    path = root / STATE / "settings.toml"
    try:
        return LibrarySettings.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except FileNotFoundError:
        return LibrarySettings()
    except ValidationError as error:
        where, what = refusals(error, LibrarySettings, "setting")[0]
        raise UsageError(f"{path}: {where}: {what}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}); fix or remove it") from None


def save_settings(root: Path, settings: LibrarySettings) -> Path:
    """Save a library's settings that were set, not the defaults. Returns the file."""
    path = root / STATE / "settings.toml"
    given = settings.model_dump(mode="json", exclude_unset=True)
    with atomic_writer(path) as handle:
        handle.write("# Options of `mmgcs library` for this library. Options on the command line override them.\n")
        # For these values, TOML's syntax is JSON's.
        handle.writelines(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in given.items())
    return path


class GenreNames:
    """Translate between our names for genres and the user's."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """Take a table from our names to the user's."""
        self._names = {canonical(ours): own for ours, own in names.items()}
        self._back = {own.casefold(): ours for ours, own in self._names.items()}

    def own(self, genre: str) -> str:
        """Return the user's name for a genre, or ours if the table lacks it."""
        return self._names.get(canonical(genre), genre)

    def meaning(self, genres: Iterable[str]) -> tuple[str, ...]:
        """Return our names for the user's genres, each once.

        >>> GenreNames({"Crime": "Krimi"}).meaning(["krimi", "Sci-Fi"])
        ('Crime', 'Science Fiction')
        """
        found: dict[str, None] = {}
        for genre in genres:
            ours = self._back.get(genre.casefold())
            found.update(dict.fromkeys([ours] if ours else parse_genres(genre)))
        return tuple(found)


def load_names(name: str | None) -> GenreNames:
    """Return the genre names of a known catalogue, or those in a file.

    Args:
        name: a key of `NAMES`; or a JSON file with an object, or a CSV file with two columns, from our names to the
            user's; None for our own.

    Raises:
        UsageError: there is no such name and no such file, or the file is not a table of genres.
    """
    if name is None or name in NAMES:
        return GenreNames({} if name is None else NAMES[name])
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"no genre names {name!r}; known: {', '.join(sorted(NAMES))}, or a .json or .csv file")
    if path.suffix.lower() == ".json":
        try:
            pairs = list(TypeAdapter(dict[str, str]).validate_json(path.read_text(encoding="utf-8-sig")).items())
        except ValueError:
            raise UsageError(f'{path} is not a JSON object of strings, such as {{"Crime": "Krimi"}}') from None
    else:
        pairs = [(row[0], row[1]) for row in read_cells(path) if len(row) >= 2]
    table = {ours.strip(): own.strip() for ours, own in pairs if ours.strip()}
    for ours, own in table.items():
        if not own or SEPARATORS.search(own) or NOT_XML.search(own):
            raise UsageError(
                f"{path} names {ours} {own!r}; a name must not be empty or contain / , | ; or a control character"
            )
    if not table:
        raise UsageError(f"{path} has no genres; give lines such as Crime,Krimi")
    return GenreNames(table)


def read_cells(path: Path) -> list[list[str]]:
    """Return the rows of a table that a spreadsheet saved: CSV with any delimiter and encoding, or .xlsx.

    Raises:
        UsageError: the file cannot be read.
    """
    if path.suffix.lower() == ".xlsx":
        from mmgcs.tables import READERS  # a scan needs no tables

        table = READERS[".xlsx"](path, None)
        values = (row.values.values() for row in table.rows)
        rows = [list(table.columns), *(["" if value is None else str(value) for value in row] for row in values)]
    else:
        rows = _csv(path)
    return [
        [cell[1:] if cell[:1] == "'" and cell[1:2] in FORMULA else cell for cell in row] for row in rows if any(row)
    ]


def _csv(path: Path) -> list[list[str]]:
    try:
        text = decode_text(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}); check the path") from None
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    if declared := re.match(r"sep=(.)\r?$", first, re.IGNORECASE):  # Excel's way to declare the delimiter
        text, delimiter = text[len(first) + 1 :], declared[1]
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


def write_cells(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV file that spreadsheets open as UTF-8, and in which no cell is a formula."""
    with atomic_writer(path) as handle:
        handle.write("\ufeff")
        csv.writer(handle).writerows([f"'{cell}" if cell[:1] in FORMULA else cell for cell in row] for row in rows)
