"""Turn a data set into a table for training, with a report that accounts for every record."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_flow

from mmgcs.datasets.clean import OUTSIDE, Cleaned, LabelSets, clean, joined
from mmgcs.datasets.sources import RAW_SCHEMA, SPLITS, check_writable, read_source, write_films
from mmgcs.datasets.split import deviation, parse_shares, split_counts, split_films
from mmgcs.errors import InputError, UsageError
from mmgcs.files import write_json
from mmgcs.genres import DEFAULT_GENRES, LABEL_SETS, unfamiliar
from mmgcs.wording import did_you_mean


def prepare(
    path: Path,
    out: Path,
    *,
    source: str = "auto",
    columns: Mapping[str, str] | None = None,
    genres: Sequence[str] | None = None,
    balance: str = "none",
    per_genre: int | None = None,
    split: str = "auto",
    min_words: int = 1,
    min_films: int = 1,
    need_plot: bool = True,
    seed: int = 0,
) -> dict[str, Any]:
    """Read a data set, clean, select and split its films, and write them with a report, `OUT.report.json`.

    Args:
        path: the data set's file or folder.
        out: the table to write: .csv, .tsv, .jsonl or .parquet.
        source: a name in `SOURCES`, or "auto".
        columns: film field to the column to read it from, for a table of your own.
        genres: genre names, the name of a label set, or "data" (or "all") to keep all genres of the data; None is the
            default set, or "data" if `balance` is "top10".
        balance: "top10" takes equally many films for each of the ten most common genres; "none" takes all.
        per_genre: films per genre; None takes as many as possible.
        split: "80/10/10" makes a new split, "keep" (or "auto") keeps that of the source, "none" removes it.
        min_words: the minimum number of words in a plot.
        min_films: genres with fewer films are left out.
        need_plot: True to drop films without a plot even if they have a poster.
        seed: the seed of all random choices.

    Returns:
        The report.

    Raises:
        UsageError: an option is wrong or impossible for these films.
        InputError: the data set cannot be read, no film is left, or a split would be empty.
    """
    if balance not in ("none", "top10"):
        raise UsageError(f"--balance {balance} is unknown; known: none, top10")
    top10 = balance == "top10"
    if per_genre is not None and not top10:
        raise UsageError("--per-genre needs --balance top10; add it, or leave --per-genre out")
    shares = None if split in ("auto", "keep", "none") else parse_shares(split)
    named = tuple(genres or (("data",) if top10 else DEFAULT_GENRES))
    wanted: Sequence[str] | None = LABEL_SETS.get(named[0].lower(), named) if len(named) == 1 else named
    if named in (("data",), ("all",)):
        wanted = None
    check_writable(out)
    began = time.perf_counter()
    source, raw = read_source(path, source, columns)
    read = raw.frame.height + len(raw.problems)
    cleaned = clean(raw, genres=wanted, min_words=min_words, need_plot=need_plot)
    del raw
    frame, labels = _choose(cleaned, top10, per_genre, min_films, seed)
    if not frame.height:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in cleaned.dropped.items() if count)
        fix = "check the columns, --genres and --min-words"
        if cleaned.dropped.get(OUTSIDE):
            hint = did_you_mean((genres or ("",))[0], LABEL_SETS)  # a misspelt name of a set
            found = ", ".join(list(cleaned.labels.others)[:8])
            fix = hint or f"its genres are {found}; keep them with --genres data"
        raise InputError(f"no film of {path} is left ({reasons or 'it has none'}); {fix}")
    linked: dict[str, int] = {}
    if split == "none":
        frame = frame.with_columns(pl.lit(None, dtype=pl.String).alias("split"))
    elif shares is not None:
        parts, linked = split_films(frame, labels, shares, seed)
        frame = frame.with_columns(parts)
    always = ("id", "title", "year", "plot", "genres", "poster", "split")
    frame = frame.select(name for name in RAW_SCHEMA if name in always or frame[name].null_count() < frame.height)
    write_films(frame, out)
    report = {
        "source": source,
        "input": str(path),
        "output": str(out),
        "read": read,
        "dropped": cleaned.dropped,
        "examples": cleaned.examples,
        "repaired": cleaned.repaired,
        "kept": frame.height,
        "genres": labels.films_per_genre(),
        "genres_left_out": dict(cleaned.labels.others),
        "splits": split_counts(frame),
        "largest_genre_difference_points": deviation(labels, frame["split"]),
        "kept_together": linked,
        "warnings": _warnings(frame, labels, cleaned.dropped.get(OUTSIDE, 0)),
        "seconds": round(time.perf_counter() - began, 2),
    }
    write_json(report_path(out), report)
    return report


def report_path(out: Path) -> Path:
    """Return the path of a table's report, next to the table."""
    return out.with_name(f"{out.stem}.report.json")


def _choose(
    cleaned: Cleaned, top10: bool, per_genre: int | None, min_films: int, seed: int
) -> tuple[pl.DataFrame, LabelSets]:
    """Return the films of the wanted genres, balanced if wanted, and count the others in `cleaned.dropped`."""
    frame, labels = cleaned.frame, cleaned.labels
    films = labels.films_per_genre()
    genres = [genre for genre in labels.genres if films[genre] >= min_films]
    if top10:
        top = sorted(labels.genres, key=lambda genre: (-films[genre], genre))[:10]
        genres = [genre for genre in top if genre in genres]
    if tuple(genres) != labels.genres:
        columns = [labels.genres.index(genre) for genre in genres]
        labels = LabelSets(tuple(genres), labels.sets[:, columns], labels.of_film)
        rows = np.flatnonzero(labels.any())
        reason = "none of the ten most common genres" if top10 else "only genres under --min-films"
        cleaned.dropped[reason] = frame.height - len(rows)
        labels = labels.take(rows)
        frame = frame[rows].with_columns(joined(labels))
    if top10 and genres:
        rows = strictly_balanced(labels, per_genre, seed)
        cleaned.dropped["left out to balance genres"] = frame.height - len(rows)
        frame, labels = frame[rows], labels.take(rows)
    return frame, labels


def strictly_balanced(labels: LabelSets, per_genre: int | None, seed: int) -> NDArray[np.int64]:
    """Choose equally many films for each genre; each chosen film counts for one of its genres.

    A film has several genres, so their totals cannot all be equal. As in the original's `strictly_balanced_top10.csv`
    (11,163 for each of ten genres: 111,630 films), equally many films are chosen on behalf of each genre. A maximum
    flow from sets of genres to genres decides which film counts for which genre, so every possible count is found.

    Args:
        labels: the films' genres.
        per_genre: films per genre; None takes as many as possible.
        seed: the seed of the choice among films with the same genres.

    Returns:
        Row numbers in ascending order, `per_genre` times the number of genres.

    Raises:
        UsageError: a genre has too few films.
    """
    films = np.bincount(labels.of_film, minlength=len(labels.sets))
    counts = labels.counts()
    if not len(counts) or counts.min() == 0:
        return np.empty(0, dtype=np.int64)
    if per_genre is None:
        low, high = 0, int(counts.min())  # binary search for the largest possible count
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if _take(labels, films, middle) is not None else (low, middle - 1)
        per_genre = low
    taken = _take(labels, films, per_genre)
    if taken is None:
        rarest = int(counts.argmin())
        raise UsageError(
            f"--per-genre {per_genre:,} is more than the films allow (the rarest genre, {labels.genres[rarest]}, has "
            f"{counts[rarest]:,}, and a film counts for one genre only); give a smaller number or leave it out"
        )
    order = np.random.default_rng(seed).permutation(len(labels.of_film))
    order = order[np.argsort(labels.of_film[order], kind="stable")]
    rank = np.arange(len(order)) - (np.cumsum(films) - films)[labels.of_film[order]]
    return np.sort(order[rank < taken[labels.of_film[order]]])


def _take(labels: LabelSets, films: NDArray[np.int64], per_genre: int) -> NDArray[np.int64] | None:
    """Return how many films of each set to take for `per_genre` films per genre; None if that is impossible."""
    sets, genres = labels.sets.shape
    source, sink = 0, 1 + sets + genres
    which, genre = np.nonzero(labels.sets)
    start = np.concatenate([np.zeros(sets, np.int64), 1 + which, 1 + sets + np.arange(genres)])
    end = np.concatenate([1 + np.arange(sets), 1 + sets + genre, np.full(genres, sink)])
    capacity = np.concatenate([films, films[which], np.full(genres, per_genre)]).astype(np.int32)
    places = (start.astype(np.int32), end.astype(np.int32))  # older versions of scipy take only int32
    graph = coo_array((capacity, places), shape=(sink + 1, sink + 1)).tocsr()
    result = maximum_flow(graph, source, sink)
    if result.flow_value < per_genre * genres:
        return None
    return np.asarray(result.flow.toarray()[source, 1 : 1 + sets], dtype=np.int64)


def _warnings(frame: pl.DataFrame, labels: LabelSets, outside: int) -> list[str]:
    warnings = []
    if outside > frame.height:
        warnings.append(
            f"{outside:,} films were dropped because none of their genres is in the chosen set, more than the "
            f"{frame.height:,} that were kept; keep the genres of the data with --genres data"
        )
    if len(labels.genres) == 1:
        warnings.append(f"all films have the same genre, {labels.genres[0]}, so there is nothing to learn")
    for genre, count in labels.films_per_genre().items():
        if count < len(SPLITS):
            films = {0: "no film", 1: "one film"}.get(count, f"{count} films")
            warnings.append(
                f"{genre} has {films}, too few for every split; leave it out with --min-films {len(SPLITS)}"
            )
    missing = frame["split"].null_count()
    if missing == frame.height:
        warnings.append("the films have no split yet; make one with: mmgcs data split FILMS --out FILE")
    elif missing:
        warnings.append(f"{missing:,} films have no split in the source; --split 80/10/10 makes a new one for all")
    return warnings


def describe_preparation(report: dict[str, Any]) -> str:
    """Format a report as text."""
    lines = [f"{report['read']:,} records read from {report['input']} ({report['source']})"]
    lines += [f"  {count:>11,} dropped: {reason}" for reason, count in report["dropped"].items() if count]
    lines += [f"  {count:>11,} {column}s repaired" for column, count in report["repaired"].items() if count]
    lines.append(f"{report['kept']:,} films kept in {report['output']}")
    lines += [f"  {count:>11,} {genre}" for genre, count in report["genres"].items()]
    if left_out := report["genres_left_out"]:
        nearest = unfamiliar(left_out, tuple(report["genres"]))
        names = ", ".join(
            f"{genre} {count:,}" + (f" (did you mean {near}?)" if (near := nearest.get(genre)) else "")
            for genre, count in list(left_out.items())[:8]
        )
        more = f" and {len(left_out) - 8:,} more" if len(left_out) > 8 else ""
        lines.append(f"genres left out: {names}{more}; --genres data keeps them")
    splits = ", ".join(f"{name} {count:,}" for name, count in report["splits"].items() if count)
    lines.append(f"splits: {splits or 'none'}")
    if report["kept_together"]:
        linked = ", ".join(f"{count:,} by {reason}" for reason, count in report["kept_together"].items())
        lines.append(f"kept in one split with another film: {linked}")
    lines += [f"warning: {warning}" for warning in report["warnings"]]
    return "\n".join(lines)
