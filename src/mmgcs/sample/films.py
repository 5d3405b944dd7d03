"""Reading the shipped sample."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path

from mmgcs.catalog import read_films
from mmgcs.film import Film


def sample_table() -> Path:
    """The sample's table, `films.csv`; its posters lie beside it."""
    # Wheels are installed unpacked, so this is the file itself and not a copy that ends with the block.
    with as_file(files("mmgcs.sample")) as folder:
        return folder / "films.csv"


def sample_films() -> list[Film]:
    """The films of the sample, with genres, plots (all but three), posters (most) and splits."""
    return list(_films())


@lru_cache(maxsize=1)
def _films() -> tuple[Film, ...]:
    return tuple(film for chunk in read_films(sample_table()) for film in chunk)
