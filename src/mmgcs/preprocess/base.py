"""What a preprocessor is, and the registry that bundles name them in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmgcs.film import Film
from mmgcs.registry import Registry


@dataclass(frozen=True, slots=True)
class Prepared:
    """One film's input, ready for a branch's graph.

    Attributes:
        value: the prepared array, without a batch dimension.
        length: what a batch is bucketed by: tokens of a plot, 1 for a picture.
        warnings: what was odd about the input.
    """

    value: NDArray[Any]
    length: int
    warnings: tuple[str, ...] = ()


class Preprocessor(Protocol):
    """Turns films into the arrays that a branch's graph reads.

    Attributes:
        views: what tells that an input is no film's: names in `mmgcs.runtime.domain.VIEWS`.
    """

    views: tuple[str, ...]

    def prepare(self, films: Sequence[Film]) -> list[Prepared]:
        """Prepare films that have this branch's input.

        Raises:
            InputError: with one film, its input cannot be used; callers that must not stop prepare films one by one.
        """

    def collate(self, prepared: Sequence[Prepared]) -> dict[str, NDArray[Any]]:
        """Stack prepared films into the graph's named inputs, padding where lengths differ."""


PreprocessorFactory = Callable[[Mapping[str, Any], Callable[[str], bytes]], Preprocessor]
"""Makes a preprocessor from a branch's options and a function that reads one of the bundle's files."""

PREPROCESSORS: Registry[PreprocessorFactory] = Registry("preprocessing")


def whole_number(options: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """An option that is a whole number. Raises KeyError, TypeError or ValueError where it is none or out of bounds."""
    number = int(options[name])
    if not least <= number <= most:
        raise ValueError(f"{name} is {number}, not between {least} and {most}")
    return number


def pad_stack(rows: Sequence[NDArray[Any]], fill: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Stack rows of different lengths.

    Returns:
        ids (batch, longest) padded with `fill`, and the mask (batch, longest) that is 1 where a row has a value; int64.
    """
    longest = max(len(row) for row in rows)
    ids = np.full((len(rows), longest), fill, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return ids, mask
