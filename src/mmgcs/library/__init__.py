"""Media libraries: folders of films with NFO files, scanned, tagged and restored."""

from mmgcs.library.names import load_names
from mmgcs.library.nfo import read_nfo
from mmgcs.library.plans import Plan, TagOptions
from mmgcs.library.review import COLUMNS, review_row
from mmgcs.library.scan import FilmFiles, find_films, read_film
from mmgcs.library.settings import Settings, load_settings, save_settings
from mmgcs.library.spreadsheet import write_cells
from mmgcs.library.tagging import Library, Undone

__all__ = [
    "COLUMNS",
    "FilmFiles",
    "Library",
    "Plan",
    "Settings",
    "TagOptions",
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
