"""Clean films: repair texts, unify the spelling of genres, and drop films that are no use for training."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import ftfy
import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmgcs.datasets.sources import SPLITS
from mmgcs.genres import parse_genres
from mmgcs.preprocess import PLACEHOLDER, clean_text
from mmgcs.tables import Frame

# Matches texts that may need repair, as repairing every text would be slow: control, invisible and odd space
# characters, double or outer spaces, combining accents, entities, or signs of mojibake: UTF-8 read as Windows-1252,
# Windows-1251, Mac Roman or DOS has one of these letters before another non-ASCII letter or a space.
_SUSPECT = (
    "[\x00-\x1f\x7f-\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff]"
    r"|  |^ | $|\p{M}|&(?:#|[A-Za-z]{2,8};)|[\x{c2}-\x{f4}Ă¬√ƒ≈‚┬├ΓВГРС][^\x00-\x7f]|[ÃÂ] "
)
_HEAD = 60
"""Plots are compared by this many characters first, or half as many letters."""
OUTSIDE = "none of the wanted genres"
"""The reason to drop films without a wanted genre."""
EXAMPLES = 5
"""The number of example ids kept for each reason to drop a film."""


def repair(text: str) -> str:
    """Unescape a text (`&amp;`, even twice), repair mojibake, and clean the text as for a prediction.

    >>> repair("CafÃ© &amp;amp; cinÃ©ma")
    'Café & cinéma'
    """
    for _ in range(2):
        text = html.unescape(text)
    if not text.isascii():
        # Line by line, as in ftfy's fix_text, because one text may mix encodings.
        text = "\n".join(map(ftfy.fix_encoding, text.split("\n")))
    return clean_text(text)


@dataclass(frozen=True, slots=True)
class LabelSets:
    """The genres of films: the distinct sets of genres, and the index of each film's set.

    Attributes:
        genres: the genre names, in column order.
        sets: (distinct sets, genres) bool: the genres of each set.
        of_film: (films,) int64: the index of each film's set.
        others: the number of films of each genre that is not in `genres`.
    """

    genres: tuple[str, ...]
    sets: NDArray[np.bool_]
    of_film: NDArray[np.int64]
    others: Mapping[str, int] = field(default_factory=dict)

    def counts(self) -> NDArray[np.int64]:
        """Return the number of films of each genre, (genres,)."""
        films = np.bincount(self.of_film, minlength=len(self.sets))
        return np.asarray(films @ self.sets.astype(np.int64), dtype=np.int64)

    def films_per_genre(self) -> dict[str, int]:
        """Return the number of films of each genre, by name."""
        return dict(zip(self.genres, self.counts().tolist(), strict=True))

    def any(self) -> NDArray[np.bool_]:
        """Return which films have any genre, (films,)."""
        return np.asarray(self.sets.any(axis=1))[self.of_film]

    def take(self, rows: NDArray[np.int64]) -> LabelSets:
        """Return the label sets of some of the films."""
        return LabelSets(self.genres, self.sets, self.of_film[rows], self.others)


def label_sets(column: pl.Series, genres: Sequence[str] | None = None) -> LabelSets:
    """Parse a column of genres in any spelling; each distinct value is parsed once.

    Args:
        column: values that `parse_genres` reads, or None.
        genres: the genres to keep, in this order; None keeps all, the most common first.
    """
    column = column.fill_null("")
    values = column.unique().sort().to_list()
    codes = column.cast(pl.Enum(values)).to_physical().cast(pl.Int64).to_numpy()
    parsed = [parse_genres(value) for value in values]
    totals: dict[str, int] = {}
    for names, count in zip(parsed, np.bincount(codes, minlength=len(values)).tolist(), strict=True):
        for name in names:
            totals[name] = totals.get(name, 0) + count
    ranked = sorted(totals, key=lambda name: (-totals[name], name))
    kept = ranked if genres is None else list(parse_genres(genres))
    others = {name: totals[name] for name in ranked if name not in set(kept)}
    if not kept:
        return LabelSets((), np.zeros((1, 0), dtype=np.bool_), np.zeros(len(codes), dtype=np.int64), others)
    position = {name: index for index, name in enumerate(kept)}
    matrix = np.zeros((len(values), len(kept)), dtype=np.bool_)
    for row, names in enumerate(parsed):
        matrix[row, [position[name] for name in names if name in position]] = True
    sets, which = np.unique(matrix, axis=0, return_inverse=True)
    return LabelSets(tuple(kept), sets, which.reshape(-1)[codes], others)


def joined(labels: LabelSets) -> pl.Series:
    """Return the genres of each film as `A|B`, or None if it has none."""
    names = ["|".join(np.asarray(labels.genres)[row]) or None for row in labels.sets]
    return pl.Series("genres", names, dtype=pl.String).gather(labels.of_film)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Films for training, and what was dropped.

    Attributes:
        frame: the films, with `genres` as `A|B`.
        labels: the same genres, row by row.
        dropped: the number of films dropped for each reason, in order.
        examples: a few ids of the films dropped for each reason.
        repaired: the number of texts repaired, by column.
    """

    frame: pl.DataFrame
    labels: LabelSets
    dropped: dict[str, int]
    examples: dict[str, list[str]]
    repaired: dict[str, int]


def clean(raw: Frame, *, genres: Sequence[str] | None = None, min_words: int = 1, need_plot: bool = True) -> Cleaned:
    """Repair texts, unify the spelling of genres, and drop films that are no use for training.

    Dropped, in this order: broken records; films without an id, or with an earlier film's id; without a plot (if
    `need_plot` is False, without a plot and a poster); without a genre; without a wanted genre; with fewer than
    `min_words` words; with an earlier film's plot (compared without case, punctuation and spacing).

    Args:
        raw: the films as a reader returned them.
        genres: the genres to keep; None keeps all.
        min_words: the minimum number of words in a plot.
        need_plot: True if a film needs a plot, False if a poster is enough.
    """
    frame = raw.frame
    dropped = {"broken record": len(raw.problems)}
    examples = {"broken record": list(raw.problems[:EXAMPLES])} if raw.problems else {}

    def keep(sound: pl.Series, reason: str) -> NDArray[np.int64]:
        nonlocal frame
        gone = frame["id"].filter(~sound)
        dropped[reason] = len(gone)
        if len(gone):
            examples[reason] = [str(film) for film in gone.head(EXAMPLES)]
            frame = frame.filter(sound)
        return sound.arg_true().to_numpy().astype(np.int64)

    keep(frame["id"].str.contains(r"\S").fill_null(False), "no id")
    keep(frame["id"].is_first_distinct(), "duplicate id")
    missing = pl.col("plot").is_null() | pl.col("plot").str.contains(PLACEHOLDER)
    frame = frame.with_columns(pl.when(~missing).then("plot").alias("plot"))
    has_plot = frame["plot"].is_not_null()
    keep(has_plot if need_plot else has_plot | _has_poster(frame), "no plot" if need_plot else "no plot and no poster")

    keep(frame["genres"].str.contains(r"\w").fill_null(False), "no genre")
    labels = label_sets(frame["genres"], genres)
    labels = labels.take(keep(pl.Series(labels.any()), OUTSIDE))

    suspect = frame.lazy().select(pl.col(name).str.contains(_SUSPECT).fill_null(False) for name in ("title", "plot"))
    repaired = {}
    for column in suspect.collect(engine="streaming"):
        name, rows = column.name, column.arg_true()
        before = frame[name].gather(rows)
        after = pl.Series(name, map(repair, before), dtype=pl.String)
        repaired[name] = int((before != after).sum())
        frame = frame.with_columns(frame[name].scatter(rows, after))

    words = pl.col("plot").str.count_matches(" ", literal=True) + 1
    long = frame.select(((pl.col("plot") != "") & (words >= min_words)).fill_null(True)).to_series()
    labels = labels.take(keep(long, "plot too short"))
    labels = labels.take(keep(_is_first(frame["plot"]), "duplicate plot"))
    split = pl.when(pl.col("split").is_in(SPLITS)).then("split").alias("split")
    return Cleaned(frame.with_columns(joined(labels), split), labels, dropped, examples, repaired)


def letters_only(texts: pl.Series) -> pl.Series:
    """Return texts in lower case, with only their letters and digits."""
    return texts.str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]+", "")


def _is_first(plots: pl.Series) -> pl.Series:
    """Return False for plots that repeat an earlier one, ignoring case, punctuation and spacing; else True."""
    # Compare beginnings first, which is much faster: few plots share one.
    letters = _HEAD // 2
    beginning = letters_only(plots.str.head(_HEAD))
    # The lower case of the last letter can depend on the next one, so take one more letter.
    short = (beginning.str.len_chars() <= letters).fill_null(False).arg_true()
    beginning = beginning.str.head(letters).scatter(short, letters_only(plots.gather(short)).str.head(letters))
    rows = (plots.is_not_null() & beginning.is_duplicated()).arg_true()
    first = letters_only(plots.gather(rows)).hash().is_first_distinct()
    return pl.repeat(True, len(plots), dtype=pl.Boolean, eager=True).scatter(rows, first)


def _has_poster(frame: pl.DataFrame) -> pl.Series:
    has = (pl.col(name).str.contains(r"\S").fill_null(False) for name in ("poster", "poster_path", "poster_url"))
    return frame.select(pl.any_horizontal(has)).to_series()
