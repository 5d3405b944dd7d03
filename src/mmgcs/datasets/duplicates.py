"""Plots that are nearly the same, found exactly: no pair over the threshold is missed, unlike with MinHash.

Two plots are near-duplicates where the Jaccard similarity of their sets of three-word sequences ("shingles") is at
least `THRESHOLD`. Comparing all pairs of a million plots is out of reach; the prefix filter (Chaudhuri, Ganti and
Kaushik, 2006; Xiao et al., "Efficient Similarity Joins for Near Duplicate Detection", 2008) makes it unnecessary:
when each plot's shingles are ordered from rare to common, two plots that are similar enough share one of their first
few. Nearly every plot begins with shingles that no other plot has, so few pairs are left to compare.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
from numpy.typing import NDArray

THRESHOLD = 0.5
"""Jaccard similarity of three-word shingles from which two plots are near-duplicates: one word in ten changed."""
WIDTH = 3
MAX_WORDS = 400
"""Words of a plot that are compared; the first page tells near-duplicates apart as well as the whole."""
MAX_SHARING = 200
"""A shingle that more plots than this begin with is a stock phrase; its plots are compared with their nearest ones in
length only, which bounds the time. Pairs that share nothing rarer can then be missed."""
_CHUNK = 50_000  # plots that are cut into words at a time
_PIECE = 2**20


def near_duplicates(plots: pl.Series) -> NDArray[np.int64]:
    """Pairs of plots that are nearly the same.

    Args:
        plots: texts; None and texts without words are similar to nothing.

    Returns:
        (pairs, 2) row numbers, the first smaller than the second.
    """
    hashes, lengths = _shingles(plots)
    if not len(hashes):
        return np.empty((0, 2), dtype=np.int64)
    rows = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    keep = _shared(hashes, bits=27)
    hashes, rows = hashes[keep], rows[keep]
    del keep
    if not len(hashes):
        return np.empty((0, 2), dtype=np.int64)
    tokens, frequency = _frequencies(hashes)
    del hashes
    # Rare first within each plot; the token's number breaks ties, the same in every plot.
    order = np.lexsort((tokens, frequency[tokens], rows))
    tokens, rows = tokens[order], rows[order]
    shared = np.bincount(rows, minlength=len(lengths))
    starts = np.concatenate([[0], np.cumsum(shared)])
    position = np.arange(len(rows)) - starts[rows] + (lengths - shared)[rows]  # shingles of this plot alone come first
    prefix = lengths - np.ceil(THRESHOLD * lengths - 1e-9).astype(np.int64) + 1
    begins = position < prefix[rows]
    pairs = _candidates(tokens[begins], rows[begins], lengths)
    return _similar(pairs, tokens, starts, lengths)


def _shingles(plots: pl.Series) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The distinct shingles of every plot as hashes, plot by plot, and how many each plot has."""
    pieces = [plots[start : start + _CHUNK] for start in range(0, len(plots), _CHUNK)]
    if not pieces:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    # Both libraries let go of the interpreter while they work, so threads are enough.
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        hashes, lengths = zip(*pool.map(_shingles_of, pieces), strict=True)
    return np.concatenate(hashes), np.concatenate(lengths)


def _shingles_of(plots: pl.Series) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    plain = plots.fill_null("").str.to_lowercase().str.replace_all(r"[^\p{L}\p{N} ]+", "")
    words = plain.str.split(" ").list.head(MAX_WORDS)
    counts = words.list.len().to_numpy().astype(np.int64)
    flat = words.explode().hash(seed=0).to_numpy()
    rows = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    hashes = flat.copy()
    for step in range(1, WIDTH):
        hashes[:-step] *= np.uint64(0x9E3779B97F4A7C15)
        hashes[:-step] += flat[step:]
    whole = np.zeros(len(flat), dtype=np.bool_)
    whole[: 1 - WIDTH] = rows[: 1 - WIDTH] == rows[WIDTH - 1 :]
    # A plot of one or two words has one shingle, all of it; one without words has none.
    ends = np.cumsum(counts)
    for row in np.flatnonzero((counts < WIDTH) & (plain.str.strip_chars() != "").to_numpy()):
        start = ends[row] - counts[row]
        hashes[start] = np.bitwise_xor.reduce(flat[start : ends[row]] << np.uint64(counts[row]))
        whole[start] = True
    hashes, rows = hashes[whole], rows[whole]
    once = _once_a_plot(hashes, rows)
    return hashes[once], np.bincount(rows[once], minlength=len(counts)).astype(np.int64)


def _once_a_plot(hashes: NDArray[np.uint64], rows: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which shingles stand in their plot for the first time."""
    keys = hashes ^ (rows.astype(np.uint64) * np.uint64(0xD6E8FEB86659FD93))
    again = np.flatnonzero(_shared(keys, bits=22))  # few: sorting all of them by plot would take most of the time
    order = again[np.lexsort((again, hashes[again], rows[again]))]
    once = np.ones(len(hashes), dtype=np.bool_)
    once[order[1:]] = (hashes[order[1:]] != hashes[order[:-1]]) | (rows[order[1:]] != rows[order[:-1]])
    return once


def _shared(hashes: NDArray[np.uint64], bits: int) -> NDArray[np.bool_]:
    """Which hashes occur more than once; a few that do not may come along (two hashes in one place of the table)."""
    ordered = np.sort(hashes)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    del ordered
    mask = np.uint64(2**bits - 1)
    table = np.zeros(2**bits, dtype=np.bool_)
    table[repeated & mask] = True
    keep = np.empty(len(hashes), dtype=np.bool_)
    for start in range(0, len(hashes), _PIECE):  # in pieces, as the places are as large as the hashes
        keep[start : start + _PIECE] = table[hashes[start : start + _PIECE] & mask]
    return keep


def _frequencies(hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A number for each distinct hash, and how often it occurs."""
    _, numbers, frequency = np.unique(hashes, return_inverse=True, return_counts=True)
    return numbers.reshape(-1).astype(np.int64), frequency.astype(np.int64)


def _candidates(
    tokens: NDArray[np.int64], rows: NDArray[np.int32], lengths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Pairs of plots that share a token of their beginnings and are near enough in length, each pair once."""
    order = np.lexsort((lengths[rows], tokens))
    tokens, rows = tokens[order], rows[order].astype(np.int64)
    found = []
    for gap in range(1, MAX_SHARING):
        same = tokens[gap:] == tokens[:-gap]
        # Sorted by length within a token: a plot too short for its neighbour is too short for all beyond.
        near = same & (lengths[rows[:-gap]] >= THRESHOLD * lengths[rows[gap:]])
        if not near.any():
            break
        left, right = rows[:-gap][near], rows[gap:][near]
        found.append(np.minimum(left, right) * len(lengths) + np.maximum(left, right))
    codes = np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)
    return np.stack([codes // len(lengths), codes % len(lengths)], axis=1) if len(codes) else np.empty((0, 2), np.int64)


def _similar(
    pairs: NDArray[np.int64], tokens: NDArray[np.int64], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The pairs whose similarity reaches the threshold."""
    keep = np.zeros(len(pairs), dtype=np.bool_)
    for index, (left, right) in enumerate(pairs.tolist()):
        ours, theirs = tokens[starts[left] : starts[left + 1]], tokens[starts[right] : starts[right + 1]]
        common = len(np.intersect1d(ours, theirs, assume_unique=True))
        keep[index] = common >= THRESHOLD * (lengths[left] + lengths[right] - common)
    return pairs[keep]
