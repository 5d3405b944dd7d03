"""Find all near-duplicate plots. The search is exact: unlike MinHash, it misses no pair above the threshold.

Two plots are near-duplicates if the Jaccard similarity of their sets of three-word sequences ("shingles") is at
least `THRESHOLD`. Comparing all pairs of a million plots would take too long. The prefix filter (Chaudhuri, Ganti and
Kaushik, 2006; Xiao et al., "Efficient Similarity Joins for Near Duplicate Detection", 2008) makes it unnecessary: if
each plot's shingles are sorted from rare to common, two similar plots share one of their first few. In nearly every
plot, those first shingles occur in no other, so few pairs are left to compare.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from mmgcs.machine import cores

THRESHOLD = 0.5
"""The least Jaccard similarity of near-duplicates: about one word in ten may differ."""
WIDTH = 3
MAX_SHARING = 200
"""If more plots than this share a shingle among their first few, it is a stock phrase. To limit the time, its plots are
only compared with those nearest in length, so pairs that share nothing rarer can be missed."""
_CHUNK = 50_000  # plots processed at a time
_PIECE = 2**20
_ODD = np.uint64(0x9E3779B97F4A7C15)  # the golden ratio: spreads sums of hashes over all 64 bits


def near_duplicates(plots: pl.Series) -> NDArray[np.int64]:
    """Return links between plots that are nearly the same.

    Args:
        plots: texts; None and texts without words are ignored.

    Returns:
        (links, 2) row numbers. Every link is a near-duplicate pair, and all near-duplicates are linked directly or
        through others. Pairs linked through others are left out, as a thousand copies would give half a million pairs.
    """
    hashes, lengths = _shingles(plots)
    # Renumber plots from short to long, so that sorting by number sorts by length.
    original = np.argsort(lengths, kind="stable")
    number = np.empty(len(lengths), dtype=np.uint64)
    number[original] = np.arange(len(lengths), dtype=np.uint64)
    rows = np.repeat(number, lengths)
    lengths = lengths[original]
    keep = _shared(hashes)
    hashes, rows = hashes[keep], rows[keep]
    del keep
    if not len(hashes):
        return np.empty((0, 2), dtype=np.int64)
    ranks, count = _by_rarity(hashes)
    del hashes
    rows <<= np.uint64(32)
    rows |= ranks
    rows.sort()  # plot by plot, rare shingles first
    # int32, since these arrays take most of the memory.
    owners, tokens = (rows >> np.uint64(32)).astype(np.int32), (rows & np.uint64(2**32 - 1)).astype(np.int32)
    del rows, ranks
    shared = np.bincount(owners, minlength=len(lengths))
    starts = np.concatenate([[0], np.cumsum(shared)])
    position = np.arange(len(owners))
    position -= (starts[:-1] - (lengths - shared))[owners]  # shingles that no other plot has come first
    prefix = lengths - np.ceil(THRESHOLD * lengths - 1e-9).astype(np.int64) + 1
    begins = position < prefix[owners]
    table = csr_array((np.ones(len(tokens), dtype=np.int16), tokens, starts), shape=(len(lengths), count))
    return original[_links(tokens[begins].astype(np.int64), owners[begins].astype(np.int64), lengths, table)]


def _shingles(plots: pl.Series) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return hashes of the distinct shingles of all plots, plot by plot, and how many each plot has."""
    pieces = [plots[start : start + _CHUNK] for start in range(0, len(plots), _CHUNK)]
    if not pieces:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    # Threads are enough, because polars and numpy release the GIL.
    with ThreadPoolExecutor(max_workers=min(4, cores())) as pool:
        hashes, lengths = zip(*pool.map(_shingles_of, pieces), strict=True)
    return np.concatenate(hashes), np.concatenate(lengths)


def _shingles_of(plots: pl.Series) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    plain = plots.fill_null("").str.to_lowercase().str.replace_all(r"[^\p{L}\p{N} ]+", "")
    words = plain.str.split(" ").list.head(400)  # the first page finds near-duplicates as well as the whole plot does
    counts = words.list.len().to_numpy().astype(np.int64)
    flat = words.explode().hash(seed=0).to_numpy()
    rows = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    hashes = flat.copy()
    for step in range(1, WIDTH):
        hashes[:-step] *= _ODD
        hashes[:-step] += flat[step:]
    whole = np.zeros(len(flat), dtype=np.bool_)
    whole[: 1 - WIDTH] = rows[: 1 - WIDTH] == rows[WIDTH - 1 :]
    # A plot of one or two words is one shingle; a plot without words has none.
    ends = np.cumsum(counts)
    short = np.flatnonzero((counts < WIDTH) & (plain.str.strip_chars() != "").to_numpy())
    start = ends[short] - counts[short]
    second = start[counts[short] == WIDTH - 1] + 1
    hashes[start] = flat[start]
    hashes[second - 1] ^= flat[second] >> np.uint64(7)  # shifted, so that the order matters
    whole[start] = True
    hashes, rows = hashes[whole], rows[whole]
    once = _once_a_plot(hashes, rows)
    return hashes[once], np.bincount(rows[once], minlength=len(counts)).astype(np.int64)


def _once_a_plot(hashes: NDArray[np.uint64], rows: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return True for the first occurrence of each shingle in its plot."""
    keys = hashes ^ (rows.astype(np.uint64) * np.uint64(0xD6E8FEB86659FD93))
    again = np.flatnonzero(_shared(keys))  # only a few; sorting all of them by plot would take most of the time
    order = again[np.lexsort((again, hashes[again], rows[again]))]
    once = np.ones(len(hashes), dtype=np.bool_)
    once[order[1:]] = (hashes[order[1:]] != hashes[order[:-1]]) | (rows[order[1:]] != rows[order[:-1]])
    return once


def _shared(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return True for hashes that occur more than once, and for a few others that share a slot in the table."""
    ordered = np.sort(hashes)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    del ordered
    bits = max(10, min(28, len(hashes).bit_length() + 3))
    mask = np.uint64(2**bits - 1)
    table = np.zeros(2**bits, dtype=np.bool_)
    table[repeated & mask] = True
    keep = np.empty(len(hashes), dtype=np.bool_)
    for start in range(0, len(hashes), _PIECE):  # in pieces, to save memory
        keep[start : start + _PIECE] = table[hashes[start : start + _PIECE] & mask]
    return keep


def _by_rarity(hashes: NDArray[np.uint64]) -> tuple[NDArray[np.uint32], int]:
    """Return the rank of each hash, the rarest first, and the number of ranks."""
    _, numbers, frequency = np.unique(hashes, return_inverse=True, return_counts=True)
    rank = np.empty(len(frequency), dtype=np.uint32)
    rank[np.argsort(frequency, kind="stable")] = np.arange(len(frequency), dtype=np.uint32)
    return rank[numbers], len(frequency)


def _links(
    tokens: NDArray[np.int64], rows: NDArray[np.int64], lengths: NDArray[np.int64], table: csr_array
) -> NDArray[np.int64]:
    """Link plots that share one of their first tokens, comparing neighbours in length first."""
    entries = np.sort((tokens.astype(np.uint64) << np.uint64(32)) | rows.astype(np.uint64))
    tokens, rows = (entries >> np.uint64(32)).astype(np.int64), (entries & np.uint64(2**32 - 1)).astype(np.int64)
    found = [np.empty((0, 2), dtype=np.int64)]
    group = np.arange(len(lengths))
    compared = np.empty(0, dtype=np.int64)
    for gap in range(1, MAX_SHARING):
        # If a plot is too short for another one, it is too short for all longer ones.
        near = (tokens[gap:] == tokens[:-gap]) & (lengths[rows[:-gap]] >= THRESHOLD * lengths[rows[gap:]])
        if not near.any():
            break
        left, right = rows[:-gap][near], rows[gap:][near]
        new = np.unique((left * len(lengths) + right)[group[left] != group[right]])
        new = np.setdiff1d(new, compared, assume_unique=True)
        compared = np.concatenate([compared, new])
        pairs = np.stack(np.divmod(new, len(lengths)), axis=1)
        alike = pairs[_similar(pairs, lengths, table)]
        if len(alike):
            found.append(alike)
            edges = np.concatenate(found)
            graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(len(lengths),) * 2)
            group = connected_components(graph, directed=False)[1]
        # Tokens are finished once their plots are all linked, or none are further apart.
        tokens, rows = _unfinished(tokens, rows, group, gap + 1)
    return np.concatenate(found)


def _unfinished(
    tokens: NDArray[np.int64], rows: NDArray[np.int64], group: NDArray[Any], gap: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if not len(tokens):
        return tokens, rows
    first = np.flatnonzero(np.concatenate([[True], tokens[1:] != tokens[:-1]]))
    sizes = np.diff(np.append(first, len(tokens)))
    groups = group[rows]
    several = np.minimum.reduceat(groups, first) != np.maximum.reduceat(groups, first)
    keep = np.repeat(several & (sizes > gap), sizes)
    return tokens[keep], rows[keep]


def _similar(pairs: NDArray[np.int64], lengths: NDArray[np.int64], table: csr_array) -> NDArray[np.bool_]:
    """Return True for pairs that reach the threshold."""
    keep = np.zeros(len(pairs), dtype=np.bool_)
    for start in range(0, len(pairs), _CHUNK):
        left, right = pairs[start : start + _CHUNK].T
        common = table[left].multiply(table[right]).sum(axis=1)
        keep[start : start + _CHUNK] = common >= THRESHOLD * (lengths[left] + lengths[right] - common)
    return keep
