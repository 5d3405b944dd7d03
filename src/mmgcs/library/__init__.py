"""Media libraries: folders of films with NFO files, scanned, tagged and restored."""

from mmgcs.library.saved_options import LibrarySettings, load_library_settings, load_names, save_settings, write_cells
from mmgcs.library.scan import LibraryFilm
from mmgcs.library.tagging import REVIEW, Library, Plan

__all__ = [
    "REVIEW",
    "Library",
    "LibraryFilm",
    "LibrarySettings",
    "Plan",
    "load_library_settings",
    "load_names",
    "save_settings",
    "write_cells",
]
