"""Split films, stratified by genre and with related films in the same split, and check splits for leaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from mmgcs.datasets.clean import LabelSets
from mmgcs.datasets.duplicates import near_duplicates
from mmgcs.datasets.sources import SPLITS, pictures
from mmgcs.errors import InputError, UsageError

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


def parse_shares(text: str) -> tuple[float, float, float]:
    """Parse `80/10/10` (or `0.8/0.1/0.1`) as the shares of train, valid and test, scaled to a sum of 1.

    >>> parse_shares("80/10/10")
    (0.8, 0.1, 0.1)

    Raises:
        UsageError: there are not three numbers, one is negative, or the share of train is zero.
    """
    try:
        train, valid, test = (float(part) for part in text.split("/"))
    except ValueError:
        raise UsageError(f"--split {text!r} is not three numbers; write it like 80/10/10 (train/valid/test)") from None
    total = train + valid + test
    if not (train > 0 and valid >= 0 and test >= 0 and np.isfinite(total)):
        raise UsageError(f"--split {text!r} must have a positive share for train and no negative one")
    return train / total, valid / total, test / total


def split_films(
    frame: pl.DataFrame, labels: LabelSets, shares: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0
) -> tuple[pl.Series, dict[str, int]]:
    """Assign every film to a split; see `stratify` and `leak_groups`.

    Returns:
        The column `split`, and the number of films kept in the split of an earlier film, by reason.

    Raises:
        InputError: a split would be empty.
    """
    links = leak_groups(frame)
    groups = group_numbers(links, frame.height)
    parts = stratify(labels, groups, shares, seed)
    counts = np.bincount(parts, minlength=len(shares))
    empty = [name for name, share, count in zip(SPLITS, shares, counts, strict=True) if share and not count]
    if frame.height and empty:
        raise InputError(_empty_split(empty, links, groups))
    kept_together = dict(links["reason"].value_counts().sort("reason").iter_rows())
    return pl.Series("split", SPLITS, dtype=pl.String).gather(parts), kept_together


def _empty_split(empty: Sequence[str], links: pl.DataFrame, groups: NDArray[np.int64]) -> str:
    names = f"split {empty[0]}" if len(empty) == 1 else f"splits {' and '.join(empty)}"
    sizes = np.bincount(groups)
    if sizes.max() <= max(1, len(groups) // 4):
        return f"{len(groups):,} films are too few for the {names}; give more films, or other shares with --split"
    inside = links.filter(pl.Series(groups).gather(links["left"]) == int(sizes.argmax()))
    return (
        f"nothing is left for the {names}: {sizes.max():,} of {len(groups):,} films belong together "
        f"({inside['reason'].mode().sort()[0]}) and must be in one split; if they are unrelated, change that column"
    )


def stratify(labels: LabelSets, groups: NDArray[np.int64], shares: Sequence[float], seed: int = 0) -> NDArray[np.int64]:
    """Split films by iterative stratification over several genres, keeping groups whole.

    After Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data" (2011): the genre with the
    fewest films left is distributed first, to the splits that need it most. Unlike there, all groups with the same
    genres are distributed at once, in proportion to those needs, instead of film by film. That also keeps combinations
    of genres in proportion, and takes only a few thousand steps for a million films.

    Args:
        labels: the films' genres.
        groups: (films,) the group of each film, as any integers.
        shares: the share of each split, summing to 1.
        seed: the seed of the choice among groups with the same genres.

    Returns:
        (films,) the index of each film's split.
    """
    groups = np.unique(groups, return_inverse=True)[1]
    films = np.column_stack([labels.sets[labels.of_film], np.ones(len(groups), dtype=np.int32)])
    ones, shape = np.ones(len(groups), dtype=np.int32), (groups.max(initial=-1) + 1, len(groups))
    members_of = csr_array((ones, (groups, np.arange(len(groups)))), shape=shape)
    # Types: groups with the same number of films of each genre, and in total.
    types, of_group = np.unique(members_of @ films, axis=0, return_inverse=True)
    of_group = of_group.reshape(-1)
    members = np.bincount(of_group, minlength=len(types)).astype(np.int64)
    left = members @ types  # films per genre, and in total, still to distribute
    need = np.outer(np.asarray(shares), left.astype(np.float64))  # (splits, genres + 1)
    weight = 1.0 / np.maximum(1e-9, np.outer(np.asarray(shares), np.maximum(1, left)))
    dealt = np.zeros((len(types), len(shares)), dtype=np.int64)
    waiting = np.ones(len(types), dtype=np.bool_)
    while waiting.any():
        open_genres = np.flatnonzero(left[:-1] > 0)
        genre = open_genres[left[open_genres].argmin()] if len(open_genres) else -1
        chosen = np.flatnonzero(waiting & (types[:, genre] > 0))
        # Large groups first, so that small ones can even out the rest.
        for kind in chosen[np.lexsort((members[chosen], -types[chosen, -1]))]:
            dealt[kind] = _deal(int(members[kind]), types[kind], need, genre, weight)
            need -= np.outer(dealt[kind], types[kind])
            left = left - members[kind] * types[kind]
        waiting[chosen] = False
    _even_out(dealt, types.astype(np.float64), need, weight)
    # The groups of a type are assigned at random.
    order = np.random.default_rng(seed).permutation(len(of_group))
    order = order[np.argsort(of_group[order], kind="stable")]
    split_of_group = np.empty(len(of_group), dtype=np.int64)
    split_of_group[order] = np.repeat(np.tile(np.arange(len(shares)), len(types)), dealt.reshape(-1))
    return np.asarray(split_of_group[groups], dtype=np.int64)


def _deal(
    count: int, kind: NDArray[np.int32], need: NDArray[np.float64], genre: int, weight: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return how many of `count` equal groups each split gets, in proportion to its need for `genre`.

    Groups left over by rounding go where they reduce the weighted sum of squared needs most.
    """
    wanted = np.clip(need[:, genre], 0.0, None)
    if wanted.sum() <= 0:
        wanted = np.clip(need[:, -1], 1e-9, None)
    dealt = np.floor(count * wanted / wanted.sum()).astype(np.int64)
    for _ in range(count - int(dealt.sum())):
        lack = need - np.outer(dealt, kind)
        dealt[int(((2 * lack - kind) * kind * weight).sum(axis=1).argmax())] += 1
    return np.asarray(dealt, dtype=np.int64)


def _even_out(
    dealt: NDArray[np.int64], types: NDArray[np.float64], need: NDArray[np.float64], weight: NDArray[np.float64]
) -> None:
    """Move groups between splits while that reduces the weighted squared needs. Modifies `dealt` and `need`.

    After the last groups, films of the most common genres, some needs remain that no group is left to fill.
    """
    splits = len(need)
    for _ in range(200):
        best = (-1e-9, 0, 0, 0)
        for source in range(splits):
            given = types @ (2 * need[source] * weight[source]) + types**2 @ weight[source]
            for target in range(splits):
                if source == target:
                    continue
                change = given - types @ (2 * need[target] * weight[target]) + types**2 @ weight[target]
                change[dealt[:, source] == 0] = 0.0
                kind = int(change.argmin())
                best = min(best, (float(change[kind]), source, target, kind))
        gain, source, target, kind = best
        if gain >= -1e-9:
            return
        dealt[kind, source] -= 1
        dealt[kind, target] += 1
        need[source] += types[kind]
        need[target] -= types[kind]


def series_key(titles: pl.Series) -> pl.Series:
    """Reduce titles to what a series shares: no number, part, subtitle, article or upper case.

    >>> series_key(pl.Series(["The Godfather Part II", "The Godfather", "Rocky IV", "Alien: Covenant"])).to_list()
    ['godfather', 'godfather', 'rocky', 'alien']
    """
    table = pl.LazyFrame({"series": titles}).select(pl.col("series").str.to_lowercase())
    for pattern, replacement in _RULES:
        shorter = pl.col("series").str.replace_all(pattern, replacement)
        # A rule that would remove the whole title ("2012", "It: …") is skipped.
        table = table.with_columns(
            pl.when(shorter.str.contains(r"\S")).then(shorter).otherwise("series").alias("series")
        )
    return table.collect(engine="streaming").to_series()


def leak_groups(frame: pl.DataFrame) -> pl.DataFrame:
    """Return, for each film and each reason, the first film that it must share a split with.

    Films belong together if they share an id, a series, a poster, or nearly the same plot.

    Args:
        frame: films with `title`, `plot`, and, if known, `collection`, `poster`, `poster_path` and `poster_url`.

    Returns:
        Rows (`reason`, `left`, `right`): pairs of row numbers and the reason. All films of a series are linked to its
        first film, so n films take n - 1 rows.
    """
    links = [_linked(key, reason) for reason, key in _keys(frame).items()]
    pairs = near_duplicates(frame["plot"])
    links.append(
        pl.DataFrame({"left": pairs[:, 0], "right": pairs[:, 1], "reason": ["near-duplicate plot"] * len(pairs)})
    )
    return pl.concat(link.cast({"left": pl.Int64, "right": pl.Int64, "reason": pl.String}) for link in links)


def _keys(frame: pl.DataFrame) -> dict[str, pl.Series]:
    keys = {"id": frame["id"]}
    if "title" in frame.columns:
        key = series_key(frame["title"])
        # A title shared by more films is a common title ("Untitled"), not a series.
        most = min(400, max(20, frame.height // 4))
        common = key.is_in(key.value_counts().filter(pl.col("count") > most)["series"].implode())
        keys["series by title"] = key.set(common.fill_null(False), None)
    for column, reason in (
        ("collection", "series by collection"),
        ("poster", "poster"),
        ("poster_path", "poster"),
        ("poster_url", "poster"),
    ):
        if column in frame.columns and frame[column].null_count() < frame.height:
            held = pictures(frame[column])
            key = frame[column] if held is None else held.hash().cast(pl.String).set(held.is_null(), None)
            keys.setdefault(reason, key)
    return keys


def _linked(key: pl.Series, reason: str) -> pl.DataFrame:
    table = pl.DataFrame({"key": key, "right": pl.int_range(len(key), eager=True)})
    table = table.filter(pl.col("key").str.contains(r"\S") & ~pl.col("key").is_unique())
    first = pl.col("right").first().over("key").alias("left")
    return table.select(first, "right", pl.lit(reason).alias("reason")).filter(pl.col("left") != pl.col("right"))


def group_numbers(links: pl.DataFrame, films: int) -> NDArray[np.int64]:
    """Return the group of each film, (films,): films linked directly or through others share a number."""
    left, right = links["left"].to_numpy(), links["right"].to_numpy()
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(films, films))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def split_counts(frame: pl.DataFrame) -> dict[str, int]:
    """Return the number of films in each split."""
    return {name: int((frame["split"] == name).sum()) for name in SPLITS}


def find_leaks(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Return pairs of related films in different splits; see `leak_groups`.

    Each has the `reason`, the ids of the two `films`, and their `splits`. Films without a split are ignored.
    """
    frame = frame.filter(pl.col("split").is_in(SPLITS))
    links = leak_groups(frame)
    splits, ids = frame["split"], frame["id"]
    crossing = links.filter(splits.gather(links["left"]) != splits.gather(links["right"]))
    return [
        {"reason": reason, "films": [ids[left], ids[right]], "splits": [splits[left], splits[right]]}
        for reason, left, right in crossing.select("reason", "left", "right").iter_rows()
    ]


def deviation(labels: LabelSets, parts: pl.Series) -> dict[str, float]:
    """Return, for each split, the largest difference in points between a genre's share there and overall."""
    overall = labels.counts() / max(1, len(labels.of_film))
    result = {}
    for name in SPLITS:
        rows = parts.eq(name).fill_null(False).arg_true().to_numpy().astype(np.int64)
        if len(rows) and len(overall):
            result[name] = round(float(np.abs(labels.take(rows).counts() / len(rows) - overall).max() * 100), 3)
    return result
