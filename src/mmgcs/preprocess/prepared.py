"""What a preprocessor is, and the registry that bundles name them in."""

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

    value: NDArray[Any]  # the prepared array, without a batch dimension
    length: int  # what batches are sorted by: tokens of a plot, 1 for a picture
    warnings: tuple[str, ...] = ()  # what was odd about the input


class Preprocessor(Protocol):
    """Turn films into the arrays that a branch's graph reads."""

    def prepare(self, films: Sequence[Film]) -> list[Prepared]:
        """Prepare films that have this branch's input.

        Raises:
            InputError: an input cannot be used. Callers that must not stop prepare films one by one.
        """

    def collate(self, prepared: Sequence[Prepared]) -> dict[str, NDArray[Any]]:
        """Stack prepared films into the graph's named inputs, padding where lengths differ."""


PreprocessorFactory = Callable[[Mapping[str, Any], Callable[[str], bytes]], Preprocessor]
"""Makes a preprocessor from a branch's options and a function that reads one of the bundle's files."""

PREPROCESSORS: Registry[PreprocessorFactory] = Registry("preprocessing")


def whole_number(options: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """Return an option that is a whole number. Raises KeyError, TypeError or ValueError if it is missing or wrong."""
    number = int(options[name])
    if not least <= number <= most:
        raise ValueError(f"{name} is {number}, not between {least} and {most}")
    return number
