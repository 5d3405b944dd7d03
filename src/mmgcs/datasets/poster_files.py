"""The posters in a folder, each named for its film's id, and the table of films that names them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import quote

import polars as pl

from mmgcs.datasets.base import table_columns
from mmgcs.datasets.films import read_films
from mmgcs.errors import MmgcsError

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".avif")
"""The extensions of posters."""
MAX_STEM = 200
"""Bytes of a poster's name before its suffix; file systems take 255, of which a file in the making needs twenty."""


def poster_stem(film: str) -> str:
    """A film's id as a file name: characters that could lead elsewhere are escaped, and what is too long is cut."""
    stem = quote(film, safe=" ")
    stem = stem.replace(".", "%2E") if stem.startswith(".") else stem
    if len(stem) <= MAX_STEM:
        return stem
    # No escaped id has "%-" in it, so that a cut name is never another film's whole one.
    return f"{stem[: MAX_STEM - 66]}%-{hashlib.sha256(film.encode()).hexdigest()}"


def poster_files(folder: Path) -> dict[str, str]:
    """The posters in a folder: from `poster_stem` to the file's name."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    return {name.rpartition(".")[0]: name for name in names if name.lower().endswith(PICTURES)}


def with_posters(films: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """The films with `poster` naming each one's file in the folder, None where it has none."""
    there = poster_files(folder)
    names = [there.get(poster_stem(film)) for film in films["id"]]
    return films.with_columns(pl.Series("poster", names, dtype=pl.String))


def is_with_posters(films: pl.DataFrame, path: Path) -> bool:
    """Whether a file holds what `with_posters` made of these films earlier, and nothing that writing it again loses."""
    try:
        if table_columns(path) != films.columns:
            return False
        there = read_films(path).frame
    except MmgcsError:
        return False
    # CSV knows no empty text beside no text.
    there, films = (frame.with_columns(pl.col(pl.String).replace("", None)) for frame in (there, films))
    posters = zip(there["poster"], films["id"], strict=False)
    return there.drop("poster").equals(films.drop("poster")) and all(
        name is None or name.rpartition(".")[0] == poster_stem(film) for name, film in posters
    )
