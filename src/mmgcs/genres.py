"""Label sets and the spellings of genres."""

from __future__ import annotations

DEFAULT_GENRES = (
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
"""The ten genres of the default model."""
