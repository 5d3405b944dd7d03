"""Media libraries: folders of films with NFO files, scanned, tagged and restored."""

from mmgcs.library.names import load_names
from mmgcs.library.nfo import read_nfo
from mmgcs.library.plans import Complete, LibraryOptions, Plan, Predict
from mmgcs.library.review import COLUMNS, review_row
from mmgcs.library.scan import FilmFiles, find_films, read_film
from mmgcs.library.settings import LibrarySettings, load_settings, save_settings
from mmgcs.library.spreadsheet import write_cells
from mmgcs.library.tagging import Library, Undone

__all__ = [
    "COLUMNS",
    "Complete",
    "FilmFiles",
    "Library",
    "LibraryOptions",
    "LibrarySettings",
    "Plan",
    "Predict",
    "Undone",
    "find_films",
    "load_names",
    "load_settings",
    "read_film",
    "read_nfo",
    "review_row",
    "save_settings",
    "write_cells",
]
