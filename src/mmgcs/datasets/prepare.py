"""From a published data set to a table of films that can be trained on, with a report of what became of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mmgcs.datasets.balance import TOP, strictly_balanced, top_genres
from mmgcs.datasets.base import RAW_SCHEMA, SOURCES, SPLITS, detect_source
from mmgcs.datasets.clean import Cleaned, LabelSets, clean, joined
from mmgcs.datasets.films import check_writable, write_films
from mmgcs.datasets.split import deviation, parse_shares, split_films
from mmgcs.errors import InputError, UsageError
from mmgcs.files import write_json
from mmgcs.genres import DEFAULT_GENRES, LABEL_SETS

BALANCES = ("none", "top10")
_ALWAYS = ("id", "title", "year", "plot", "genres", "poster", "split")


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How films are chosen.

    Attributes:
        source: a name in `SOURCES`, or "auto".
        genres: genre names, a label set's name, or "all"; None is the default ten (with `balance` "top10": all).
        balance: "top10" takes equally many films for each of the ten commonest genres; "none" takes all.
        per_genre: how many films for each genre; None takes as many as all can have.
        split: "80/10/10" makes a split, "keep" (or "auto") leaves the source's where it has one, "none" removes it.
        min_words: the fewest words of a plot.
        min_films: genres with fewer films are left out.
        need_plot: whether films without a plot are dropped even where they have a poster.
        seed: decides every random choice.
    """

    source: str = "auto"
    genres: tuple[str, ...] | None = None
    balance: str = "none"
    per_genre: int | None = None
    split: str = "auto"
    min_words: int = 1
    min_films: int = 1
    need_plot: bool = True
    seed: int = 0

    def check(self) -> None:
        """Refuse an impossible combination, naming the option. Raises UsageError."""
        if self.source != "auto":
            SOURCES[self.source]
        if self.balance not in BALANCES:
            raise UsageError(f"--balance {self.balance} is unknown; known: {', '.join(BALANCES)}")
        if self.per_genre is not None and self.balance == "none":
            raise UsageError("--per-genre needs --balance top10; add it, or leave --per-genre out")
        for name, value in (
            ("--per-genre", self.per_genre),
            ("--min-words", self.min_words),
            ("--min-films", self.min_films),
        ):
            if value is not None and value < 1:
                raise UsageError(f"{name} {value} is not a positive number; give 1 or more")
        if self.split not in ("auto", "keep", "none"):
            parse_shares(self.split)

    def wanted_genres(self) -> Sequence[str] | None:
        """The genres to keep, None for all."""
        if self.genres is None:
            return None if self.balance == "top10" else DEFAULT_GENRES
        if len(self.genres) == 1 and self.genres[0] in LABEL_SETS:
            return LABEL_SETS[self.genres[0]]
        return None if self.genres == ("all",) else self.genres


def prepare(path: Path, out: Path, options: PrepareOptions | None = None) -> dict[str, Any]:
    """Read a data set, clean, choose, split and write it; `OUT.report.json` says what became of every record.

    Args:
        path: a data set's file or folder.
        out: the table to write: .csv, .jsonl or .parquet.
        options: how films are chosen.

    Returns:
        The report, as it is written.

    Raises:
        UsageError: an option is wrong or impossible for these films.
        InputError: the data set cannot be read, or no film is left.
    """
    options = options or PrepareOptions()
    options.check()
    check_writable(out)
    began = time.perf_counter()
    source = detect_source(path) if options.source == "auto" else options.source
    raw = SOURCES[source].read(path)
    read = raw.frame.height + raw.broken
    cleaned = clean(raw, genres=options.wanted_genres(), min_words=options.min_words, need_plot=options.need_plot)
    del raw
    frame, labels = _choose(cleaned, options)
    if not frame.height:
        raise InputError(_nothing_left(path, cleaned))
    frame, made = _with_split(frame, labels, options)
    kept = [name for name in RAW_SCHEMA if name in _ALWAYS or frame[name].null_count() < frame.height]
    frame = frame.select(kept)
    write_films(frame, out)
    report = {
        "source": source,
        "input": str(path),
        "output": str(out),
        "read": read,
        "dropped": cleaned.dropped.counts,
        "examples": cleaned.dropped.examples,
        "repaired": cleaned.repaired,
        "kept": frame.height,
        "genres": dict(zip(labels.genres, labels.counts().tolist(), strict=True)),
        "splits": {name: int((frame["split"] == name).sum()) for name in SPLITS},
        "largest_genre_difference_points": deviation(labels, frame["split"]),
        "kept_together": made,
        "warnings": _warnings(frame, labels),
        "seconds": round(time.perf_counter() - began, 2),
    }
    write_json(report_path(out), report)
    return report


def report_path(out: Path) -> Path:
    """Where the report of a prepared table lies: beside it."""
    return out.with_name(f"{out.stem}.report.json")


def _choose(cleaned: Cleaned, options: PrepareOptions) -> tuple[pl.DataFrame, LabelSets]:
    frame, labels, dropped = cleaned.frame, cleaned.labels, cleaned.dropped
    counts = dict(zip(labels.genres, labels.counts().tolist(), strict=True))
    genres = [genre for genre in labels.genres if counts[genre] >= options.min_films]
    if options.balance == "top10":
        genres = [genre for genre in top_genres(labels, TOP) if genre in genres]
    if tuple(genres) != labels.genres:
        columns = [labels.genres.index(genre) for genre in genres]
        labels = LabelSets(tuple(genres), labels.sets[:, columns], labels.of_film)
        rows = np.flatnonzero(labels.any())
        reason = "none of the ten commonest genres" if options.balance == "top10" else "only genres under --min-films"
        dropped.add(reason, frame.height - len(rows))
        labels = labels.take(rows)
        frame = frame[rows].with_columns(joined(labels))
    if options.balance == "top10" and genres:
        rows = strictly_balanced(labels, options.per_genre, options.seed)
        dropped.add("left out to balance genres", frame.height - len(rows))
        frame, labels = frame[rows], labels.take(rows)
    return frame, labels


def _with_split(frame: pl.DataFrame, labels: LabelSets, options: PrepareOptions) -> tuple[pl.DataFrame, dict[str, int]]:
    how = options.split
    if how == "none":
        return frame.with_columns(pl.lit(None, dtype=pl.String).alias("split")), {}
    if how in ("auto", "keep"):
        return frame, {}
    parts, links = split_films(frame, labels, parse_shares(how), options.seed)
    counts = links["reason"].value_counts().sort("reason")
    return frame.with_columns(parts), dict(counts.iter_rows())


def _warnings(frame: pl.DataFrame, labels: LabelSets) -> list[str]:
    warnings = []
    if len(labels.genres) == 1:
        warnings.append(f"all films have the one genre {labels.genres[0]}: there is nothing to tell apart")
    for genre, count in zip(labels.genres, labels.counts().tolist(), strict=True):
        if count < len(SPLITS):
            films = {0: "no film", 1: "one film"}.get(count, f"{count} films")
            warnings.append(
                f"{genre} has {films}, too few for every split; leave it out with --min-films {len(SPLITS)}"
            )
    missing = frame["split"].null_count()
    if missing == frame.height:
        warnings.append("the films have no split yet; make one with: mmgcs data split FILMS --out FILE")
    if 0 < missing < frame.height:
        warnings.append(f"{missing:,} films have no split in the source; --split 80/10/10 makes a new one for all")
    return warnings


def _nothing_left(path: Path, cleaned: Cleaned) -> str:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in cleaned.dropped.counts.items() if count)
    return f"no film of {path} is left ({reasons or 'it has none'}); check the columns, --genres and --min-words"


def describe(report: dict[str, Any]) -> str:
    """A report as text for people."""
    lines = [f"{report['read']:,} records read from {report['input']} ({report['source']})"]
    lines += [f"  {count:>11,} dropped: {reason}" for reason, count in report["dropped"].items() if count]
    lines += [f"  {count:>11,} {column}s repaired" for column, count in report["repaired"].items() if count]
    lines.append(f"{report['kept']:,} films kept in {report['output']}")
    lines += [f"  {count:>11,} {genre}" for genre, count in report["genres"].items()]
    splits = ", ".join(f"{name} {count:,}" for name, count in report["splits"].items() if count)
    lines.append(f"splits: {splits or 'none'}")
    if report["kept_together"]:
        linked = ", ".join(f"{count:,} by {reason}" for reason, count in report["kept_together"].items())
        lines.append(f"kept in one split with another film: {linked}")
    lines += [f"warning: {warning}" for warning in report["warnings"]]
    return "\n".join(lines)
