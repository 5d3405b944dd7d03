"""The numbers behind the charts of the films that a model learned from, as `mmgcs data inspect --json` prints them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, model_validator

from mmgcs.errors import UsageError

SHIPPED = "default_films.json"
"""The numbers of the films that the default bundle learned from, and the SHA-256 of their table."""

Counts = dict[str, NonNegativeInt]


class Inspected(BaseModel):
    """A table of films in numbers. The fields are those of `mmgcs.datasets.DataSummary`, which says more.

    Attributes:
        together: for each pair of genres, in the order of `genres`, the films that have both.
    """

    model_config = ConfigDict(extra="ignore")

    films: NonNegativeInt
    genres: Counts
    together: list[list[NonNegativeInt]]
    genres_per_film: Counts
    lengths: dict[Annotated[int, Field(ge=0, le=1000)], NonNegativeInt]
    years: Counts
    missing: Counts
    duplicates: Counts

    @model_validator(mode="after")
    def _square(self) -> Self:
        wide = len(self.genres)
        if len(self.together) != wide or any(len(row) != wide for row in self.together):
            raise ValueError("together is not a square of the genres")
        return self

    def shares(self) -> dict[str, list[int | None]]:
        """For each genre the percentage of its films that have each other genre; None on the diagonal."""
        return {
            genre: [
                None if row == column else round(100 * both / max(1, self.genres[genre]))
                for column, both in enumerate(self.together[row])
            ]
            for row, genre in enumerate(self.genres)
        }

    def decades(self) -> dict[str, int]:
        """Films by decade, named as people do."""
        return {f"{decade}s": count for decade, count in self.years.items()}

    def words(self) -> dict[str, int]:
        """Films by words of their plot, in steps of ten without a gap."""
        return {str(step): self.lengths.get(step, 0) for step in range(0, max(self.lengths, default=0) + 1, 10)}


def inspected(path: str, card: Mapping[str, Any]) -> Inspected | None:
    """The numbers in the file at `path`; without a path the shipped ones, where the card names their table.

    Raises:
        UsageError: the file is not what `mmgcs data inspect --json` prints.
    """
    if path:
        try:
            return Inspected.model_validate_json(Path(path).read_bytes())
        except OSError as error:
            raise UsageError(f"MMGCS_DATA: {path} cannot be read ({error.strerror or error})") from None
        except ValidationError:
            raise UsageError(f"MMGCS_DATA: {path} is not what mmgcs data inspect FILMS --json prints") from None
    shipped = json.loads(files("mmgcs.web").joinpath(SHIPPED).read_text(encoding="utf-8"))
    data = card.get("data")
    if not isinstance(data, Mapping) or data.get("sha256") != shipped["sha256"]:
        return None
    return Inspected.model_validate(shipped["summary"])
