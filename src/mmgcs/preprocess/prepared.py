"""The interface of preprocessors, and their registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from mmgcs.film import Film
from mmgcs.registry import Registry


@dataclass(frozen=True, slots=True)
class Prepared:
    """One film's input, ready for a branch's graph."""

    value: NDArray[Any]  # without a batch dimension
    length: int  # the number of tokens, 1 for a poster; batches are sorted by it
    warnings: tuple[str, ...] = ()  # problems of the input


class Preprocessor(Protocol):
    """Turns films into the arrays that a branch's graph reads."""

    def prepare(self, films: Sequence[Film]) -> list[Prepared]:
        """Prepare films that have this branch's input.

        Raises:
            InputError: an input cannot be used. To find out which, prepare the films one by one.
        """

    def collate(self, prepared: Sequence[Prepared]) -> dict[str, NDArray[Any]]:
        """Stack prepared films into the graph's named inputs, padding where lengths differ."""


PreprocessorFactory = Callable[[Mapping[str, Any], Callable[[str], bytes]], Preprocessor]
"""Creates a preprocessor from a branch's options and a function that reads a file of the bundle."""

PREPROCESSORS: Registry[PreprocessorFactory] = Registry("preprocessing")


def whole_number(options: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """Return an integer option. Raises KeyError, TypeError or ValueError if it is missing or invalid."""
    number = int(options[name])
    if not least <= number <= most:
        raise ValueError(f"{name} is {number}, not between {least} and {most}")
    return number
