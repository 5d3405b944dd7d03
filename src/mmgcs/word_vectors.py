"""Read word vectors from a file in GloVe's text format: each line is a word and its numbers."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmgcs.errors import UsageError


def vector_width(path: Path) -> int:
    """Return the number of values per word. Raises UsageError if the file is missing or has another format."""
    first = next(_lines(path), ("", ""))
    width = len(first[1].split())
    if not width:
        raise UsageError(f"{path} has no word vectors: a line must be a word and its numbers")
    return width


def vectors_of(path: Path, words: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the vectors (words, width) float32 of `words`, and a mask (words,) of those the file has.

    Words that it lacks get zeros. Only the lines of these words are parsed: 20,000 of 400,000 take a second.

    Raises:
        UsageError: the file is missing, or a line does not have as many numbers as the first.
    """
    place = {word: index for index, word in enumerate(words)}
    vectors = np.zeros((len(words), vector_width(path)), dtype=np.float32)
    found = np.zeros(len(words), dtype=bool)
    for number, (word, numbers) in enumerate(_lines(path), 1):
        index = place.get(word)
        if index is not None:
            try:
                vectors[index] = np.array(numbers.split(), dtype=np.float32)
            except ValueError:
                raise UsageError(f"{path} line {number} is not a word and {vectors.shape[1]} numbers") from None
            found[index] = True
    return vectors, found


def frequent_words(path: Path, count: int | None) -> list[str]:
    """Return the first `count` words of the file, None for all; GloVe's files list the most frequent first."""
    return [word for word, _ in itertools.islice(_lines(path), count)]


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for line in lines:
                word, _, numbers = line.partition(" ")
                yield word, numbers
    except FileNotFoundError:
        raise UsageError(f"there are no word vectors at {path}; get them with: mmgcs data glove") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as word vectors ({error}); give a complete .txt or .txt.gz") from error
