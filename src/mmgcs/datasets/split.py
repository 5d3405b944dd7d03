"""Splits that are stratified by genre, keep films that belong together together, and can be proved to leak nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmgcs.datasets.base import SPLITS
from mmgcs.datasets.clean import LabelSets
from mmgcs.datasets.groups import group_numbers, leak_groups
from mmgcs.errors import UsageError

DEFAULT_SHARES = (0.8, 0.1, 0.1)
MOST_MOVES = 200


def parse_shares(text: str) -> tuple[float, float, float]:
    """Read `80/10/10` (or `0.8/0.1/0.1`): the shares of train, valid and test, which are brought to a sum of 1.

    >>> parse_shares("80/10/10")
    (0.8, 0.1, 0.1)

    Raises:
        UsageError: there are not three numbers, one is negative, or train has none.
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
    frame: pl.DataFrame, labels: LabelSets, shares: Sequence[float] = DEFAULT_SHARES, seed: int = 0
) -> tuple[pl.Series, pl.DataFrame]:
    """Assign every film to a split; see `stratify` and `leak_groups`.

    Returns:
        The column `split`, and the links between films that share one.
    """
    links = leak_groups(frame)
    parts = stratify(labels, group_numbers(links, frame.height), shares, seed)
    return pl.Series("split", SPLITS, dtype=pl.String).gather(parts), links


def stratify(labels: LabelSets, groups: NDArray[np.int64], shares: Sequence[float], seed: int = 0) -> NDArray[np.int64]:
    """Iterative stratification for films with several genres, with groups kept whole.

    After Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data" (2011): the genre with the
    fewest films left is dealt out first, to the splits that still need it most. Instead of one film at a time, all
    groups with the same genres are dealt out at once, in proportion to those needs; that keeps combinations of genres
    in proportion too, and makes a million films a matter of a few thousand steps.

    Args:
        labels: the films' genres.
        groups: (films,) the group of each film, any numbers.
        shares: the share of each split, summing to 1.
        seed: decides which of the groups with the same genres go where.

    Returns:
        (films,) the number of each film's split.
    """
    groups = np.unique(groups, return_inverse=True)[1]
    counts, size_of = _group_counts(labels, groups)
    # Types: groups with the same number of films of each genre, and the same size.
    types, of_group = np.unique(np.column_stack([counts, size_of]), axis=0, return_inverse=True)
    of_group = of_group.reshape(-1)
    members = np.bincount(of_group, minlength=len(types)).astype(np.int64)
    left = members @ types  # films of each genre, and of all, that are still to deal out
    need = np.outer(np.asarray(shares), left.astype(np.float64))  # (splits, genres + 1)
    weight = 1.0 / np.maximum(1e-9, np.outer(np.asarray(shares), np.maximum(1, left)))
    dealt = np.zeros((len(types), len(shares)), dtype=np.int64)
    waiting = np.ones(len(types), dtype=np.bool_)
    while waiting.any():
        open_genres = np.flatnonzero(left[:-1] > 0)
        genre = open_genres[left[open_genres].argmin()] if len(open_genres) else -1
        chosen = np.flatnonzero(waiting & (types[:, genre] > 0))
        # Large groups first: small ones can even out what large ones upset.
        for kind in chosen[np.lexsort((members[chosen], -types[chosen, -1]))]:
            dealt[kind] = _deal(int(members[kind]), types[kind], need, genre, weight)
            need -= np.outer(dealt[kind], types[kind])
            left = left - members[kind] * types[kind]
        waiting[chosen] = False
    _even_out(dealt, types.astype(np.float64), need, weight)
    # Which groups of a type go where is chance.
    order = np.random.default_rng(seed).permutation(len(size_of))
    order = order[np.argsort(of_group[order], kind="stable")]
    split_of_group = np.empty(len(size_of), dtype=np.int64)
    split_of_group[order] = np.repeat(np.tile(np.arange(len(shares)), len(types)), dealt.reshape(-1))
    return np.asarray(split_of_group[groups], dtype=np.int64)


def _group_counts(labels: LabelSets, groups: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Films of each genre in each group, (groups, genres), and films in each group, (groups,)."""
    size = np.bincount(groups).astype(np.int32)
    counts = np.zeros((len(size), len(labels.genres)), dtype=np.int32)
    for genre in range(len(labels.genres)):
        has = labels.sets[:, genre][labels.of_film]
        counts[:, genre] = np.bincount(groups[has], minlength=len(size))
    return counts, size


def _deal(
    count: int, kind: NDArray[np.int32], need: NDArray[np.float64], genre: int, weight: NDArray[np.float64]
) -> NDArray[np.int64]:
    """How many of `count` equal groups each split gets: by its need of `genre`, the odd ones by the need of all genres.

    An odd one goes where it lessens the squared lacks most, each weighed by the films that the split should have of the
    genre: that is where the lacks of what it has are largest.
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
    """Move single groups between splits as long as that lessens the weighed squared lacks; changes `dealt` and `need`.

    The last groups to be dealt out, the films of the commonest genres, leave lacks that no group was left to fill.
    """
    splits = len(need)
    for _ in range(MOST_MOVES):
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


@dataclass(frozen=True, slots=True)
class Leak:
    """Two films of different splits that belong together."""

    reason: str
    left: str
    right: str
    splits: tuple[str, str]


def find_leaks(frame: pl.DataFrame) -> list[Leak]:
    """Films in different splits that share an id, a series, a poster, or nearly a plot; empty where nothing leaks.

    Films without a split take no part. Every pair is looked at through the same links that splitting uses, worked out
    anew from the table itself.
    """
    frame = frame.filter(pl.col("split").is_in(SPLITS))
    links = leak_groups(frame)
    splits, ids = frame["split"], frame["id"]
    crossing = links.filter(splits.gather(links["left"]) != splits.gather(links["right"]))
    return [
        Leak(row["reason"], ids[row["left"]], ids[row["right"]], (splits[row["left"]], splits[row["right"]]))
        for row in crossing.iter_rows(named=True)
    ]


def deviation(labels: LabelSets, parts: pl.Series) -> dict[str, float]:
    """For each split the largest difference, in points, between a genre's share there and its share overall."""
    overall = labels.counts() / max(1, len(labels.of_film))
    result = {}
    for name in SPLITS:
        rows = parts.eq(name).fill_null(False).arg_true().to_numpy().astype(np.int64)
        if len(rows) and len(overall):
            result[name] = round(float(np.abs(labels.take(rows).counts() / len(rows) - overall).max() * 100), 3)
    return result
