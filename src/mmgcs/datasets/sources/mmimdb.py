"""MM-IMDb: a folder of `<id>.json` and `<id>.jpeg`, and `split.json` (Arevalo et al., 2017, arXiv 1702.01992)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mmgcs.datasets.base import RAW_SCHEMA, SOURCES, Source
from mmgcs.errors import InputError
from mmgcs.tables import Frame

_SPLIT_NAMES = {
    "train": "train",
    "dev": "valid",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "test": "test",
}
PICTURES = (".jpeg", ".jpg", ".png", ".webp")


def _recognises(path: Path, columns: Sequence[str]) -> bool:
    del columns
    return path.is_dir() and film_folder(path) is not None


def film_folder(root: Path) -> Path | None:
    """Return the folder of the films: `root` itself, or its `dataset` folder as in the published archive."""
    for folder in (root, root / "dataset"):
        if folder.is_dir() and any(item.stem != "split" for item in folder.glob("*.json")):
            return folder
    return None


def read_splits(root: Path) -> dict[str, str]:
    """Return the paper's split, "train", "valid" or "test" by film id; empty if there is no `split.json`.

    Raises:
        InputError: `split.json` is not an object of lists of ids, names an unknown part, or has a film twice.
    """
    path = next((file for file in (root / "split.json", root / "dataset" / "split.json") if file.is_file()), None)
    if path is None:
        return {}
    try:
        parts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not JSON ({error}); get MM-IMDb's split.json again") from None
    if not isinstance(parts, dict) or not all(isinstance(ids, list) for ids in parts.values()):
        raise InputError(f"{path} is not an object of lists of ids; get MM-IMDb's split.json again")
    splits: dict[str, str] = {}
    for part, ids in parts.items():
        if part not in _SPLIT_NAMES:
            raise InputError(f"{path} names a part {part!r}; known: {', '.join(_SPLIT_NAMES)}")
        for value in ids:
            film, split = str(value), _SPLIT_NAMES[part]
            if splits.setdefault(film, split) != split:
                raise InputError(f"{path} has film {film} in both {splits[film]} and {split}; a film has one part")
    return splits


def read_mmimdb(root: Path) -> Frame:
    """Read MM-IMDb. `poster` is relative to the folder of the films; the longest of several plots is used.

    Files that are not a film's JSON are counted as broken. Raises InputError for a folder without films.
    """
    folder = film_folder(root)
    if folder is None:
        raise InputError(f"{root} has no <id>.json files; give the folder that MM-IMDb's archive unpacks to")
    splits = read_splits(root)
    pictures = {item.stem: item.name for item in folder.iterdir() if item.suffix.lower() in PICTURES}
    rows, broken = [], []
    for path in sorted(folder.glob("*.json")):
        if path.name == "split.json":
            continue
        try:
            rows.append(_row(path, splits, pictures))
        except (OSError, ValueError, TypeError):
            broken.append(path.name)
    frame = pl.DataFrame(rows, schema=dict(RAW_SCHEMA), orient="row")
    return Frame(frame, tuple(broken))


def _row(path: Path, splits: dict[str, str], pictures: dict[str, str]) -> dict[str, Any]:
    record = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict):
        raise TypeError("not an object")
    plots = record.get("plot") or []
    plots = [plots] if isinstance(plots, str) else [str(plot) for plot in plots]
    genres = record.get("genres") or []
    year = str(record.get("year"))
    return {
        **dict.fromkeys(RAW_SCHEMA),
        "id": path.stem,
        "title": record.get("title"),
        "year": int(year) if year.isdigit() else None,
        "plot": max(plots, key=len, default=None),
        "genres": genres if isinstance(genres, str) else json.dumps(genres),
        "poster": pictures.get(path.stem),
        "labels": "imdb",
        "split": splits.get(path.stem),
    }


SOURCES.register("mmimdb")(
    Source("MM-IMDb: a folder of <id>.json, <id>.jpeg and split.json", _recognises, read_mmimdb, rank=10)
)
