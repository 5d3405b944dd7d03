"""Cleaning films: texts repaired, genres in one spelling, what cannot be learned from dropped and counted."""

from __future__ import annotations

import html
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import ftfy
import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmgcs.datasets.base import SPLITS, Raw
from mmgcs.genres import canonical, parse_genres
from mmgcs.preprocess import clean_text

# What may need repair; all other texts are left alone, which is what makes a million of them quick. Control, invisible
# and odd space characters, doubled or outer spaces, loose accents, an entity, or what mojibake begins with: UTF-8 read
# as Windows-1252, Windows-1251, Mac Roman or DOS shows one of these letters before another beyond ASCII or a space.
_SUSPECT = (
    "[\x00-\x1f\x7f-\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff]"
    r"|  |^ | $|\p{M}|&(?:#|[A-Za-z]{2,8};)|[\x{c2}-\x{f4}Ă¬√ƒ≈‚┬├ΓВГРС][^\x00-\x7f]|[ÃÂ] "
)
# What catalogues write where they have no plot; a text of marks alone is none either.
_PLACEHOLDERS = (
    r"(?i)^(?:no (?:overview|plot|description|synopsis)(?: found| available| yet)?|n/?a|nan|none|null|tba|tbd|unknown"
    r"|add a plot|coming soon|\W*)\.?$"
)
_EDGE = 10
_WINDOW = 28


def repair(text: str) -> str:
    """A text unescaped (`&amp;`, even twice), its mojibake repaired by ftfy, and cleaned as every prediction's is.

    >>> repair("CafÃ© &amp;amp; cinÃ©ma")
    'Café & cinéma'
    """
    for _ in range(2):
        if "&" not in text:
            break
        text = html.unescape(text)
    if not text.isascii():
        # Line by line, as ftfy's own fix_text does it: a text may be of mixed encodings. What else that does (it
        # unescapes, and removes control characters) is done before and after.
        text = "\n".join(map(ftfy.fix_encoding, text.split("\n")))
    return clean_text(text)


def _repaired(texts: pl.Series, suspect: pl.Series) -> pl.Series:
    """The texts that `suspect` marks, repaired."""
    return pl.Series(texts.name, [repair(text) for text in texts.filter(suspect)], dtype=pl.String)


@dataclass(frozen=True, slots=True)
class LabelSets:
    """The genres of films as few distinct sets and one number a film.

    Attributes:
        genres: the genre names, in column order.
        sets: (distinct sets, genres) bool: which genres each set has.
        of_film: (films,) int64: each film's set.
    """

    genres: tuple[str, ...]
    sets: NDArray[np.bool_]
    of_film: NDArray[np.int64]

    def counts(self) -> NDArray[np.int64]:
        """Films of each genre, (genres,)."""
        films = np.bincount(self.of_film, minlength=len(self.sets))
        return np.asarray(films @ self.sets.astype(np.int64), dtype=np.int64)

    def any(self) -> NDArray[np.bool_]:
        """Which films have a genre, (films,)."""
        return np.asarray(self.sets.any(axis=1))[self.of_film]

    def take(self, rows: NDArray[np.int64]) -> LabelSets:
        """The same for some of the films."""
        return LabelSets(self.genres, self.sets, self.of_film[rows])


def label_sets(column: pl.Series, genres: Sequence[str] | None = None) -> LabelSets:
    """Read a column of genres in any spelling; each distinct value is parsed once.

    Args:
        column: values that `parse_genres` reads; None is no genre.
        genres: the genres to keep, in this order; None keeps all, the commonest first.
    """
    column = column.fill_null("")
    values = column.unique().sort().to_list()
    codes = column.cast(pl.Enum(values)).to_physical().cast(pl.Int64).to_numpy()
    parsed = [parse_genres(value) for value in values]
    if genres is None:
        films = np.bincount(codes, minlength=len(values))
        totals: dict[str, int] = {}
        for names, count in zip(parsed, films, strict=True):
            for name in names:
                totals[name] = totals.get(name, 0) + int(count)
        genres = sorted(totals, key=lambda name: (-totals[name], name))
    else:
        genres = tuple(dict.fromkeys(canonical(name) for name in genres))
    position = {name: index for index, name in enumerate(genres)}
    matrix = np.zeros((len(values), len(position)), dtype=np.bool_)
    for row, names in enumerate(parsed):
        matrix[row, [position[name] for name in names if name in position]] = True
    if not len(position):
        return LabelSets((), np.zeros((1, 0), dtype=np.bool_), np.zeros(len(codes), dtype=np.int64))
    sets, which = np.unique(matrix, axis=0, return_inverse=True)
    return LabelSets(tuple(genres), sets, which.reshape(-1)[codes])


def joined(labels: LabelSets) -> pl.Series:
    """The genres of each film as `A|B`, None for a film without one."""
    names = ["|".join(np.asarray(labels.genres)[row]) or None for row in labels.sets]
    return pl.Series("genres", names, dtype=pl.String).gather(labels.of_film)


@dataclass(slots=True)
class Dropped:
    """Why films were dropped, in the order of the checks, with a few of them as examples."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, count: int, examples: Sequence[str] = ()) -> None:
        """Count films dropped for a reason; a reason that dropped none is kept too, so that a report says so."""
        self.counts[reason] = self.counts.get(reason, 0) + count
        if count:
            self.examples.setdefault(reason, []).extend(examples[: 5 - len(self.examples.get(reason, ()))])


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Films worth learning from.

    Attributes:
        frame: the films, `genres` as `A|B`.
        labels: the same genres, row by row.
        dropped: what was dropped and why.
        repaired: texts that were repaired, by column.
    """

    frame: pl.DataFrame
    labels: LabelSets
    dropped: Dropped
    repaired: dict[str, int]


def clean(raw: Raw, *, genres: Sequence[str] | None = None, min_words: int = 1, need_plot: bool = True) -> Cleaned:
    """Repair texts, bring genres into one spelling, and drop what cannot be learned from.

    Dropped, in this order: broken records; films without an id, or whose id came before; without a plot (or, where
    `need_plot` is false, without plot and poster); with fewer than `min_words` words; whose plot came before (compared
    without case, punctuation and spacing); without one of the wanted genres.

    Args:
        raw: what a reader found.
        genres: the genres to keep; None keeps all.
        min_words: the fewest words of a plot.
        need_plot: whether a film needs a plot; without, a poster will do.
    """
    frame, dropped = raw.frame, Dropped()
    dropped.add("broken record", raw.broken, raw.examples)

    def keep(sound: pl.Series, reason: str) -> None:
        nonlocal frame
        if sound.all():
            dropped.add(reason, 0)
            return
        gone = frame["id"].filter(~sound)
        dropped.add(reason, len(gone), [str(film) for film in gone.head(5)])
        frame = frame.filter(sound)

    keep(frame["id"].str.contains(r"\S").fill_null(False), "no id")
    keep(frame["id"].is_first_distinct(), "id came before")
    missing = pl.col("plot").is_null() | pl.col("plot").str.contains(_PLACEHOLDERS)
    frame = frame.with_columns(pl.when(~missing).then("plot").alias("plot"))
    has_plot = frame["plot"].is_not_null()
    keep(has_plot if need_plot else has_plot | _has_poster(frame), "no plot" if need_plot else "no plot and no poster")

    labels = label_sets(frame["genres"], genres)
    wanted = labels.any()
    named = frame["genres"].str.contains(r"\w").fill_null(False)
    labels = labels.take(np.flatnonzero(wanted))
    lacking = pl.Series(wanted)
    keep(lacking | named, "no genre")
    keep(lacking.filter(lacking | named), "none of the wanted genres")

    look = frame.lazy().select(pl.col(name).str.contains(_SUSPECT).fill_null(False) for name in ("title", "plot"))
    suspect = look.collect(engine="streaming")
    facts = (_is_short(min_words).alias("short"), _edges().alias("edges"))
    with ThreadPoolExecutor(1) as pool:  # polars needs no interpreter meanwhile
        repairing = pool.map(_repaired, [frame["title"], frame["plot"]], [suspect["title"], suspect["plot"]])
        known = frame.lazy().select(facts).collect(engine="streaming")
        after = {texts.name: texts for texts in repairing}
    repaired = {}
    for name, texts in after.items():
        rows = suspect[name].arg_true()
        repaired[name] = int((frame[name].gather(rows) != texts).sum())
        frame = frame.with_columns(frame[name].scatter(rows, texts))
    rows = suspect["plot"].arg_true()
    again = frame[rows].select(facts)
    known = known.with_columns(known[name].scatter(rows, again[name]) for name in known.columns)

    long = ~known["short"].fill_null(False)
    labels = labels.take(long.arg_true().to_numpy())
    keep(long, "plot too short")
    first = _first_ones(frame["plot"], known["edges"].filter(long))
    labels = labels.take(first.arg_true().to_numpy())
    keep(first, "plot came before")
    split = pl.when(pl.col("split").is_in(SPLITS)).then("split").alias("split")
    return Cleaned(frame.with_columns(joined(labels), split), labels, dropped, repaired)


def _is_short(min_words: int) -> pl.Expr:
    """Whether a plot, cleaned, has fewer words; null where there is none."""
    plot = pl.col("plot")
    return (
        (plot == "") if min_words == 1 else (plot == "") | (plot.str.count_matches(" ", literal=True) + 1 < min_words)
    )


def _plain(text: pl.Expr) -> pl.Expr:
    return text.str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]+", "")


def _edges() -> pl.Expr:
    """The first and last `_EDGE` letters of a plain plot, which take a third of the time of all of it.

    Null where the first or last `_WINDOW` characters do not hold that many, and more: how the last of them is written
    in lower case may depend on what follows.
    """
    head, tail = _plain(pl.col("plot").str.head(_WINDOW)), _plain(pl.col("plot").str.tail(_WINDOW))
    enough = (head.str.len_chars() > _EDGE) & (tail.str.len_chars() > _EDGE)
    return pl.when(enough).then(head.str.head(_EDGE) + tail.str.tail(_EDGE))


def _first_ones(plots: pl.Series, edges: pl.Series) -> pl.Series:
    """Which plots are the first of those that are equal without case, punctuation and spacing; only plots with the same
    `edges` are compared as a whole. A plot that is missing equals none."""
    frame = pl.DataFrame({"plot": plots, "edges": edges})
    rows = (edges.is_null() & plots.is_not_null()).arg_true()
    if len(rows):
        whole = frame[rows].select(_plain(pl.col("plot"))).to_series()
        edges = edges.scatter(rows, whole.str.head(_EDGE) + whole.str.tail(_EDGE))
    rows = (edges.is_not_null() & edges.is_duplicated()).arg_true()
    plain = frame[rows].lazy().select(_plain(pl.col("plot")).hash()).collect(engine="streaming").to_series()
    return pl.repeat(True, len(plots), dtype=pl.Boolean, eager=True).scatter(rows, plain.is_first_distinct())


def _has_poster(frame: pl.DataFrame) -> pl.Series:
    return (
        frame.select(
            pl.any_horizontal(pl.col(name).str.contains(r"\S") for name in ("poster", "poster_path", "poster_url"))
        )
        .to_series()
        .fill_null(False)
    )
