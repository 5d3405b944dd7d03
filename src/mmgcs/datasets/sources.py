"""Read labelled data sets, published or your own, into a table of films, and write such tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from mmgcs.errors import InputError, UsageError
from mmgcs.files import atomic_path
from mmgcs.genres import LABEL_SETS, canonical
from mmgcs.tables import ALIASES, WRITERS, Frame, read_frame, sources_of, table_columns, table_format, write_table

RAW_SCHEMA: Mapping[str, pl.DataType] = {
    "id": pl.String(),
    "title": pl.String(),
    "year": pl.Int32(),
    **dict.fromkeys(("plot", "genres", "poster", "poster_path", "poster_url", "collection"), pl.String()),
    **dict.fromkeys(("labels", "split", "language", "cohort"), pl.String()),
}
"""The columns that every reader returns. `genres` has the source's spelling, in any form that `mmgcs.genres` parses;
`poster` is a file in the folder of posters, `poster_path` a path at TMDB, `poster_url` a full address; `collection` is
the name of the series, if known; `language` and `cohort` are for `mmgcs evaluate --by`."""

SPLITS = ("train", "valid", "test")
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif")
"""The extensions of posters."""


def read_source(path: Path, name: str = "auto", columns: Mapping[str, str] | None = None) -> tuple[str, Frame]:
    """Read a data set. Returns its name in `SOURCES`, and its films in the columns of `RAW_SCHEMA`.

    Args:
        path: the data set's file or folder.
        name: its name in `SOURCES`; "auto" detects it.
        columns: film field to the column to read it from, for a table of films of your own.

    Raises:
        InputError: it cannot be read as that data set, or is not a known one.
        UsageError: the name is unknown, the path does not exist, or `columns` are given for a published data set.
    """
    if columns:
        if name not in ("auto", "films"):
            raise UsageError(f"--columns is for tables of your own, not for --from {name}, whose columns are known")
        return "films", read_raw_films(path, columns)
    if name == "auto":
        name = detect_source(path)
    elif name not in SOURCES:
        raise UsageError(f"there is no data source {name!r}; known: {', '.join(sorted(SOURCES))}")
    return name, SOURCES[name][1](path)


def detect_source(path: Path) -> str:
    """Return the name of the data set that `path` looks like.

    Raises:
        InputError: it is not a known one.
        UsageError: it does not exist or cannot be read.
    """
    if mmimdb_folder(path) is not None:
        return "mmimdb"
    columns = table_columns(path)
    names = set(columns)
    # The most specific first.
    if len(_one_hot_columns(columns)) >= 3 and names & {*_ORIGINAL["plot"]}:
        return "original"
    if names >= {"id", "overview", "genres", "belongs_to_collection", "imdb_id"}:
        return "movielens"
    own = names & {"split", "poster"}
    if names >= {"id", "overview", "genres"} and names & {"release_date", "vote_average"} and not own:
        return "tmdb"
    if {"id", "genres"} <= sources_of(columns).keys():
        return "films"
    sources = "; ".join(f"{name}, {about}" for name, (about, _) in sorted(SOURCES.items()))
    what = f"its columns are {', '.join(columns[:12])}"
    raise InputError(f"{path} is not a known data set ({what}); name it with --from: {sources}")


# Our own table of films

_FILMS: Mapping[str, Sequence[str]] = {
    **ALIASES,
    "poster": ("poster", "image", "poster_file"),
    "poster_path": ("poster_path",),
    "poster_url": ("poster_url", "image_url", "poster_link"),
    **{name: (name,) for name in ("collection", "language", "cohort")},
}
"""The usual column names of film fields, and of the columns that only data preparation reads."""


def read_raw_films(path: Path, columns: Mapping[str, str] | None = None, *, others: bool = False) -> Frame:
    """Read a table of films into the columns of `RAW_SCHEMA`; missing ones are null.

    Args:
        path: as for `mmgcs.tables.read_films`.
        columns: film field to the column to read it from.
        others: True to keep the table's other columns too, after these, and pictures that it holds as its posters.

    Raises:
        InputError: the table has no `id`.
        UsageError: it cannot be read.
    """
    there = table_columns(path)
    sources = sources_of(there, _FILMS, named=columns)
    if "id" not in sources:
        raise InputError(f"{path} has no column id (nor imdb_id); its columns are {', '.join(there[:12])}")
    expressions = _to_raw(there, {field: (column,) for field, column in sources.items()})
    if others:
        # A date of release says more than the year that is read from it.
        read = {*RAW_SCHEMA, *(column for field, column in sources.items() if field != "year")}
        expressions += [pl.col(name) for name in there if name not in read]
        expressions.append((pl.col(sources["poster"]) if "poster" in sources else pl.lit(None)).alias("__given"))
    raw = read_frame(path, expressions)
    # The column `poster` may also hold web addresses or paths at TMDB.
    address, at_tmdb = pl.col("poster").str.contains("(?i)^https?://"), pl.col("poster").str.contains(r"^/[\w-]+\.\w+$")
    frame = raw.frame.with_columns(
        pl.when(~address & ~at_tmdb).then("poster").alias("poster"),
        pl.coalesce("poster_url", pl.when(address).then("poster")).alias("poster_url"),
        pl.coalesce("poster_path", pl.when(at_tmdb).then("poster")).alias("poster_path"),
    )
    if others and pictures(given := frame.drop_in_place("__given")) is not None:
        frame = frame.with_columns(given.alias("poster"))
    return replace(raw, frame=frame)


def pictures(posters: pl.Series) -> pl.Series | None:
    """Return the bytes of posters that are in the table itself, as in Hugging Face's data sets; None otherwise."""
    if isinstance(posters.dtype, pl.Struct) and {"bytes", "path"} <= {field.name for field in posters.dtype.fields}:
        return posters.struct.field("bytes")
    return posters if posters.dtype == pl.Binary else None


_QUICK: Mapping[str, Callable[[pl.DataFrame, Path], object]] = {
    ".csv": pl.DataFrame.write_csv,
    ".jsonl": pl.DataFrame.write_ndjson,
    ".ndjson": pl.DataFrame.write_ndjson,
    # A fifth larger than with the default level 3, in half the time.
    **dict.fromkeys((".parquet", ".pq"), partial(pl.DataFrame.write_parquet, compression_level=1)),
}
"""Formats that polars writes itself; `write_table` writes the others row by row."""


def check_writable(path: Path) -> None:
    """Raise UsageError if `write_films` cannot write to a path. Call it before doing any work."""
    if path.is_dir() or table_format(path)[0] not in WRITERS:
        problem = "is a folder" if path.is_dir() else "has no known extension"
        raise UsageError(f"{path} {problem}; name a file ending in .csv, .tsv, .jsonl or .parquet")


def write_films(frame: pl.DataFrame, path: Path) -> None:
    """Write a table of films in the format of the extension of `path`, whole or not at all.

    Raises:
        UsageError: there is no writer for that extension.
    """
    check_writable(path)
    suffix, compressed = table_format(path)
    typed = suffix in (".parquet", ".pq")
    nested = any(dtype.is_nested() or dtype == pl.Binary for dtype in frame.dtypes)
    if compressed or (nested and not typed) or suffix not in _QUICK:
        write_table(frame.iter_rows(named=True), path, frame.schema)
        return
    with atomic_path(path) as temporary:
        _QUICK[suffix](frame, temporary)


# TMDB as published on Kaggle (the dump of 1.2 million films, and TMDB-5000), and MovieLens' The Movies Dataset

_TMDB = {
    "id": ("id", "movie_id"),
    "title": ("title", "original_title"),
    "year": ("release_date",),
    "plot": ("overview",),
    "genres": ("genres",),
    "poster_path": ("poster_path",),
    "collection": ("belongs_to_collection", "collection"),
}


def _read_tmdb(path: Path) -> Frame:
    """Read the dump (genres as `A, B`), TMDB-5000 (genres as a JSON list) or MovieLens (Python-style lists).

    Rows whose id is not a number are pieces of the broken rows in the published files; they are only counted.
    """
    raw = read_frame(path, _to_raw(table_columns(path), _TMDB))
    # MovieLens' collection is a Python-style dictionary; its name is what a series shares.
    collection = pl.col("collection")
    names = [collection.str.extract(rf"'name':\s*{quote}([^{quote}]+){quote}") for quote in ("'", '"')]
    plain = pl.when(~collection.str.contains(r"^\s*\{")).then(collection)
    sound = raw.frame["id"].str.contains(r"^\d+(\.0)?$").fill_null(False)
    frame = raw.frame.filter(sound).with_columns(
        pl.col("id").str.strip_suffix(".0"), pl.coalesce(*names, plain).alias("collection"), labels=pl.lit("tmdb")
    )
    broken = (f"{path.name}, record {row + 1}" for row in (~sound).arg_true())
    return Frame(frame, (*raw.problems, *broken))


# The original system's strictly_balanced_top10.csv: genres as a list in a string, and one-hot columns

_ORIGINAL = {
    "id": ("id", "tmdb_id", "movie_id", "imdb_id"),
    "title": ("title", "original_title"),
    "year": ("release_date", "year"),
    "plot": ("overview", "plot", "clean_overview", "description"),
    "genres": ("genres", "genre_list", "genre"),
    "poster_path": ("poster_path",),
    "poster_url": ("poster_url", "poster"),
}


def _one_hot_columns(columns: Sequence[str]) -> list[str]:
    known = {canonical(genre) for genres in LABEL_SETS.values() for genre in genres}
    return [name for name in columns if canonical(name.removeprefix("genre_")) in known]


def _read_original(path: Path) -> Frame:
    """Read the original's table. A film without a list of genres gets the genres of its one-hot columns."""
    columns = table_columns(path)
    named = [
        pl.when(pl.col(name).cast(pl.String).is_in(["1", "1.0", "True", "true"])).then(
            pl.lit(name.removeprefix("genre_"))
        )
        for name in _one_hot_columns(columns)
    ]
    hot = pl.concat_str(named, separator="|", ignore_nulls=True).alias("__hot")
    raw = read_frame(path, [*_to_raw(columns, _ORIGINAL), hot])
    listed = pl.col("genres").str.contains(r"\w")
    frame = raw.frame.with_columns(pl.when(listed).then("genres").otherwise("__hot").alias("genres"))
    frame = frame.drop("__hot").with_columns(labels=pl.lit("tmdb"))
    if frame["id"].null_count() == frame.height:  # the original's table has no ids
        frame = frame.with_columns(pl.int_range(1, pl.len() + 1).cast(pl.String).alias("id"))
    return replace(raw, frame=frame)


# MM-IMDb: a folder of <id>.json and <id>.jpeg, and split.json (Arevalo et al., 2017, arXiv 1702.01992)

_MMIMDB_SPLITS = {**{name: name for name in SPLITS}, **dict.fromkeys(("dev", "val", "validation"), "valid")}


def mmimdb_folder(root: Path) -> Path | None:
    """Return the folder of MM-IMDb's films: `root`, or its `dataset` folder as in the published archive."""
    for folder in (root, root / "dataset"):
        if folder.is_dir() and any(item.stem != "split" for item in folder.glob("*.json")):
            return folder
    return None


def _read_mmimdb(root: Path) -> Frame:
    """Read MM-IMDb. `poster` is relative to the folder of the films. Of several plots, the longest is used.

    Files that are not the JSON of a film are counted as broken.
    """
    folder = mmimdb_folder(root)
    if folder is None:
        raise InputError(f"{root} has no <id>.json files; give the folder that MM-IMDb's archive unpacks to")
    splits = _read_splits(root)
    pictures = {item.stem: item.name for item in folder.iterdir() if item.suffix.lower() in PICTURES}
    rows: list[dict[str, Any]] = []
    broken: list[str] = []
    for path in sorted(folder.glob("*.json")):
        if path.name == "split.json":
            continue
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            plots, genres, year = record.get("plot") or [], record.get("genres") or [], str(record.get("year"))
            film = {
                "id": path.stem,
                "title": record.get("title"),
                "year": int(year) if year.isdigit() else None,
                "plot": plots if isinstance(plots, str) else max(map(str, plots), key=len, default=None),
                "genres": genres if isinstance(genres, str) else json.dumps(genres),
                "poster": pictures.get(path.stem),
                "split": splits.get(path.stem),
                "labels": "imdb",
            }
        except (OSError, ValueError, AttributeError, TypeError):
            broken.append(path.name)
        else:
            rows.append(dict.fromkeys(RAW_SCHEMA) | film)
    return Frame(pl.DataFrame(rows, schema=dict(RAW_SCHEMA)), tuple(broken))


def _read_splits(root: Path) -> dict[str, str]:
    """Return the paper's split, film id to "train", "valid" or "test"; {} if there is no `split.json`."""
    path = next((file for file in (root / "split.json", root / "dataset" / "split.json") if file.is_file()), None)
    if path is None:
        return {}
    splits: dict[str, str] = {}
    try:
        for part, ids in json.loads(path.read_text(encoding="utf-8")).items():
            for film in map(str, ids):
                if splits.setdefault(film, _MMIMDB_SPLITS[part]) != _MMIMDB_SPLITS[part]:
                    raise ValueError(f"film {film} is in both {splits[film]} and {part}")
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise InputError(f"{path} is not MM-IMDb's split.json ({error!r}); download it again") from None
    return splits


# All data sets

SOURCES: Mapping[str, tuple[str, Callable[[Path], Frame]]] = {
    "mmimdb": ("MM-IMDb: a folder of <id>.json, <id>.jpeg and split.json", _read_mmimdb),
    "original": ("the original's strictly_balanced_top10.csv (list strings, one-hot columns)", _read_original),
    "movielens": ("MovieLens' The Movies Dataset: movies_metadata.csv", _read_tmdb),
    "tmdb": ("Kaggle's TMDB dump or TMDB-5000: a CSV file", _read_tmdb),
    "films": ("a FILMS table: CSV, JSONL or Parquet with id, plot and genres", read_raw_films),
}
"""The known data sets: a description, and the function that reads one row per film into `RAW_SCHEMA`'s columns."""


def _to_raw(columns: Sequence[str], names: Mapping[str, Sequence[str]]) -> list[pl.Expr]:
    """Return expressions that turn a source's columns into those of `RAW_SCHEMA`.

    Args:
        columns: the source's columns.
        names: for each column of `RAW_SCHEMA`, the source's names for it, best first.
    """
    expressions = []

    def text(name: str) -> pl.Expr:
        return pl.col(name).map_batches(_as_text, return_dtype=pl.String)

    for ours, dtype in RAW_SCHEMA.items():
        theirs = [name for name in names.get(ours, ()) if name in columns]
        if not theirs:
            expressions.append(pl.lit(None, dtype=dtype).alias(ours))
        elif ours == "year":
            # Release dates begin with the year in every source; MovieLens and Excel may write 1999.0.
            year = text(theirs[0]).str.extract(r"(\d{4})").cast(pl.Int32, strict=False)
            expressions.append(pl.when(year.is_between(1870, 2100)).then(year).alias(ours))
        else:
            expressions.append(pl.coalesce(text(name) for name in theirs).alias(ours))
    return expressions


def _as_text(values: pl.Series) -> pl.Series:
    """Convert values of any type to text: lists of names to `A|B`, other nested values to JSON."""
    if isinstance(values.dtype, pl.Struct) and [field.name[:1] for field in values.dtype.fields] == ["$"]:
        values = values.struct.field(values.dtype.fields[0].name)  # MongoDB's extended JSON, such as {"$oid": "573a…"}
    if values.dtype == pl.Binary:
        return pl.Series(values.name, map(_decoded, values), dtype=pl.String)
    if (held := pictures(values)) is not None:
        values = values.struct.field("path").set(held.is_not_null(), None)
    if values.dtype == pl.List(pl.String):
        return values.list.join("|")
    if not values.dtype.is_nested():
        return values.cast(pl.String)
    texts = [
        None if value is None else json.dumps(value, ensure_ascii=False, default=str) for value in values.to_list()
    ]
    return pl.Series(values.name, texts, dtype=pl.String)


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:  # a picture
        return None
