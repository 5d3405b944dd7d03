"""MM-IMDb: a folder of `<id>.json` and `<id>.jpeg`, and `split.json` (Arevalo et al., 2017, arXiv 1702.01992)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from mmgcs.datasets.base import RAW_SCHEMA, SOURCES, SPLITS, Source
from mmgcs.errors import InputError
from mmgcs.tables import Frame

_SPLIT_NAMES = {**{name: name for name in SPLITS}, **dict.fromkeys(("dev", "val", "validation"), "valid")}
_PICTURES = (".jpeg", ".jpg", ".png", ".webp")


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
        for film in map(str, ids):
            if splits.setdefault(film, _SPLIT_NAMES[part]) != _SPLIT_NAMES[part]:
                raise InputError(f"{path} has film {film} in both {splits[film]} and {part}; a film has one part")
    return splits


def read_mmimdb(root: Path) -> Frame:
    """Read MM-IMDb. `poster` is relative to the folder of the films; the longest of several plots is used.

    Files that are not a film's JSON are counted as broken. Raises InputError for a folder without films.
    """
    folder = film_folder(root)
    if folder is None:
        raise InputError(f"{root} has no <id>.json files; give the folder that MM-IMDb's archive unpacks to")
    splits = read_splits(root)
    pictures = {item.stem: item.name for item in folder.iterdir() if item.suffix.lower() in _PICTURES}
    rows: list[dict[str, Any]] = []
    broken: list[str] = []
    for path in sorted(folder.glob("*.json")):
        if path.name == "split.json":
            continue
        try:
            film = _read_film(path)
        except (OSError, ValueError, AttributeError, TypeError):
            broken.append(path.name)
        else:
            rows.append({**film, "poster": pictures.get(path.stem), "split": splits.get(path.stem)})
    schema = dict(RAW_SCHEMA)
    return Frame(pl.DataFrame([dict.fromkeys(schema) | row for row in rows], schema=schema), tuple(broken))


def _read_film(path: Path) -> dict[str, Any]:
    record = json.loads(path.read_text(encoding="utf-8"))
    plots, genres, year = record.get("plot") or [], record.get("genres") or [], str(record.get("year"))
    return {
        "id": path.stem,
        "title": record.get("title"),
        "year": int(year) if year.isdigit() else None,
        "plot": plots if isinstance(plots, str) else max(map(str, plots), key=len, default=None),
        "genres": genres if isinstance(genres, str) else json.dumps(genres),
        "labels": "imdb",
    }


SOURCES.register("mmimdb")(
    Source(
        "MM-IMDb: a folder of <id>.json, <id>.jpeg and split.json",
        lambda path, columns: path.is_dir() and film_folder(path) is not None,
        read_mmimdb,
        rank=10,
    )
)
