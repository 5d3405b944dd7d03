"""Films that must share a split: of one series, with nearly the same plot, or with the same poster."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mmgcs.datasets.duplicates import near_duplicates

MAX_SERIES = 400
"""A title that more films than this share is a common title ("Untitled"), not a series."""

_NUMBER = r"(?:\d{1,3}|[ivx]{1,5}|one|two|three|four|five|six|seven|eight|nine|ten)"
_RULES = (
    (r"['’`´]", ""),
    (r"[:：;\[(/|].*$| [-–—] .*$", ""),  # the subtitle
    (r"[^\p{L}\p{N}]+", " "),
    (r"^ +| +$", ""),
    (r" (?:the )?(?:movie|film|sequel|remake|begins|returns|reloaded|revolutions|resurrection)$", ""),
    (rf" (?:part|vol|volume|chapter|episode|season|no|number|act|book)(?: {_NUMBER})?(?: .*)?$", ""),
    (rf" {_NUMBER}$", ""),
    (r"^(\p{L}+ \p{L}+) and (?:the|a|an) .*$", "$1"),  # Harry Potter and the …
    (r"^(?:the|a|an) ", ""),
)


def series_key(titles: pl.Series) -> pl.Series:
    """What titles of one series have in common: the title without number, part, subtitle, article and case.

    >>> series_key(pl.Series(["The Godfather Part II", "The Godfather", "Rocky IV", "Alien: Covenant"])).to_list()
    ['godfather', 'godfather', 'rocky', 'alien']
    """
    table = pl.LazyFrame({"series": titles}).select(pl.col("series").str.to_lowercase())
    for pattern, replacement in _RULES:
        shorter = pl.col("series").str.replace_all(pattern, replacement)
        # A rule that would leave nothing ("2012", "It: …") leaves the title as it was.
        table = table.with_columns(
            pl.when(shorter.str.contains(r"\S")).then(shorter).otherwise("series").alias("series")
        )
    return table.collect(engine="streaming").to_series()


def leak_groups(frame: pl.DataFrame) -> pl.DataFrame:
    """For each film and each reason the first film that it belongs with.

    Args:
        frame: films with `title`, `plot`, and, where known, `collection`, `poster`, `poster_path` and `poster_url`.

    Returns:
        Rows (`reason`, `left`, `right`): films, by row number, that must share a split, and why. Films of one series
        are linked to its first film, so that n films take n - 1 rows.
    """
    links = []
    for reason, key in _keys(frame).items():
        links.append(_linked(key, reason))
    pairs = near_duplicates(frame["plot"])
    links.append(
        pl.DataFrame({"left": pairs[:, 0], "right": pairs[:, 1], "reason": ["near-duplicate plot"] * len(pairs)})
    )
    return pl.concat(link.cast({"left": pl.Int64, "right": pl.Int64, "reason": pl.String}) for link in links)


def _keys(frame: pl.DataFrame) -> dict[str, pl.Series]:
    keys = {"id": frame["id"]}
    if "title" in frame.columns:
        key = series_key(frame["title"])
        common = key.is_in(key.value_counts().filter(pl.col("count") > MAX_SERIES)["series"].implode())
        keys["series by title"] = key.set(common.fill_null(False), None)
    for column, reason in (
        ("collection", "series by collection"),
        ("poster", "poster"),
        ("poster_path", "poster"),
        ("poster_url", "poster"),
    ):
        if column in frame.columns and frame[column].null_count() < frame.height:
            keys.setdefault(reason, frame[column])
    return keys


def _linked(key: pl.Series, reason: str) -> pl.DataFrame:
    table = pl.DataFrame({"key": key, "right": pl.int_range(len(key), eager=True)})
    table = table.filter(pl.col("key").str.contains(r"\S") & ~pl.col("key").is_unique())
    first = pl.col("right").first().over("key").alias("left")
    return table.select(first, "right", pl.lit(reason).alias("reason")).filter(pl.col("left") != pl.col("right"))


def group_numbers(links: pl.DataFrame, films: int) -> NDArray[np.int64]:
    """The group of each film, (films,): films linked directly or through others have one number."""
    left, right = links["left"].to_numpy(), links["right"].to_numpy()
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(films, films))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)
