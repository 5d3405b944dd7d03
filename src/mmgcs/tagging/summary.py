"""What a tagging run did, in numbers."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from mmgcs.film import Prediction


@dataclass(slots=True)
class TagSummary:
    """Counts of a run.

    Attributes:
        films: films tagged, including those of an earlier run that was resumed.
        kept: films among them that kept the genres they had, without a prediction.
        errors: films in error, by the error without its particulars (paths, numbers, names).
        warnings: films with at least one warning.
        unsure: films whose prediction is not sure.
        genres: genre to the number of films it was chosen for.
        found: rows of each list that was asked for.
        unchanged: films of a database that were left out, because they have a prediction already.
        deleted: films of a database that have a prediction, but are gone.
        seconds: time spent in this run.
    """

    films: int = 0
    kept: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    warnings: int = 0
    unsure: int = 0
    genres: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    unchanged: int = 0
    deleted: int = 0
    seconds: float = 0.0

    @property
    def in_error(self) -> int:
        """The number of films in error."""
        return sum(self.errors.values())

    def add(self, prediction: Prediction) -> None:
        """Count one film."""
        self.films += 1
        if prediction.error is not None:
            kind = error_kind(prediction.error)
            self.errors[kind] = self.errors.get(kind, 0) + 1
        elif not prediction.inputs:
            self.kept += 1
            return
        elif not prediction.sure:
            self.unsure += 1
        self.warnings += bool(prediction.warnings)
        for genre in prediction.genres:
            self.genres[genre] = self.genres.get(genre, 0) + 1

    def merge(self, other: TagSummary) -> None:
        """Add the counts of another run's summary."""
        self.films += other.films
        self.kept += other.kept
        self.warnings += other.warnings
        self.unsure += other.unsure
        for mine, theirs in ((self.errors, other.errors), (self.genres, other.genres), (self.found, other.found)):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count

    def lines(self) -> list[str]:
        """Return the summary as lines of text."""
        rate = f", {self.films / self.seconds:.0f} a second" if self.seconds > 0 else ""
        lines = [
            f"{self.films:,} films in {self.seconds:.1f} s{rate}: {self.in_error:,} in error, "
            f"{self.unsure:,} not sure, {self.warnings:,} with a warning"
            + (f", {self.kept:,} kept as they were" if self.kept else "")
            + (f", {self.unchanged:,} unchanged since they were tagged" if self.unchanged else "")
        ]
        if self.genres:
            ranked = Counter(self.genres).most_common()
            lines.append("genres: " + ", ".join(f"{genre} {count:,}" for genre, count in ranked))
        if self.deleted:
            lines.append(f"{self.deleted:,} films have a prediction, but are not in the table any more")
        lines += [f"error in {count:,}: {kind}" for kind, count in Counter(self.errors).most_common(20)]
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the summary as a JSON object, with genres and errors ordered by their number."""
        return {
            **asdict(self),
            "in_error": self.in_error,
            "genres": dict(Counter(self.genres).most_common()),
            "errors": dict(Counter(self.errors).most_common()),
            "seconds": round(self.seconds, 3),
        }


def error_kind(error: str) -> str:
    """Return an error without what differs between films, so that equal errors are counted together.

    >>> error_kind("the poster /a/b.jpg does not exist; check the path")
    'the poster … does not exist'
    """
    text = error.split("; ")[0]
    text = re.sub(r"the poster (?:'[^']*'|\S*[/.\\]\S*)", "the poster …", text)
    text = re.sub(r"\(.*\)", "", text)
    return " ".join(re.sub(r"\d[\d,]*", "…", text).split())
