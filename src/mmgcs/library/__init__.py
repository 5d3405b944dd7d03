"""Media libraries: folders of films with NFO files, scanned, tagged and restored."""

from mmgcs.library.nfo import read_nfo
from mmgcs.library.saved_options import LibrarySettings, load_library_settings, load_names, save_settings, write_cells
from mmgcs.library.scan import LibraryFilm, find_films, read_film
from mmgcs.library.tagging import REVIEW, Complete, Library, Plan, Undone

__all__ = [
    "REVIEW",
    "Complete",
    "Library",
    "LibraryFilm",
    "LibrarySettings",
    "Plan",
    "Undone",
    "find_films",
    "load_library_settings",
    "load_names",
    "read_film",
    "read_nfo",
    "save_settings",
    "write_cells",
]
