"""Many films at once: chunk by chunk, in order, in constant memory, and a summary of what became of them.

While a chunk runs through the graphs, threads read and decode the posters of the next.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from mmgcs.film import Film, Prediction
from mmgcs.machine import cores
from mmgcs.runtime.classifier import Classifier, PreparedFilm

GROUP = 32
"""Films that a thread prepares at once."""


@dataclass(slots=True)
class Summary:
    """What a run did.

    Attributes:
        films: films written.
        kept: films of these that kept the genres they had, unpredicted.
        errors: films in error, by the error with its particulars (paths, numbers, names) left out.
        warnings: films with at least one warning.
        unsure: films whose prediction is not sure.
        genres: genre to the number of films it was chosen for.
        found: rows of each list that was asked for.
        seconds: time spent, over all parts of a run that was continued.
    """

    films: int = 0
    kept: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    warnings: int = 0
    unsure: int = 0
    genres: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def in_error(self) -> int:
        """Films in error."""
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

    def lines(self) -> list[str]:
        """The summary for a person, a line each."""
        rate = f", {self.films / self.seconds:.0f} a second" if self.seconds > 0 else ""
        lines = [
            f"{self.films:,} films in {self.seconds:.1f} s{rate}: {self.in_error:,} in error, "
            f"{self.unsure:,} not sure, {self.warnings:,} with a warning"
            + (f", {self.kept:,} kept as they were" if self.kept else "")
        ]
        if self.genres:
            ranked = Counter(self.genres).most_common()
            lines.append("genres: " + ", ".join(f"{genre} {count:,}" for genre, count in ranked))
        lines += [f"error in {count:,}: {kind}" for kind, count in Counter(self.errors).most_common(20)]
        return lines

    def as_value(self) -> dict[str, Any]:
        """The summary as JSON holds it; genres and errors by their number."""
        return {
            **asdict(self),
            "in_error": self.in_error,
            "genres": dict(Counter(self.genres).most_common()),
            "errors": dict(Counter(self.errors).most_common()),
            "seconds": round(self.seconds, 3),
        }


def error_kind(error: str) -> str:
    """An error without what differs from film to film, so that like errors can be counted together.

    >>> error_kind("the poster /a/b.jpg does not exist; check the path")
    'the poster … does not exist'
    """
    text = error.split("; ")[0]
    text = re.sub(r"the poster (?:'[^']*'|\S*[/.\\]\S*)", "the poster …", text)
    text = re.sub(r"\(.*\)", "", text)
    return " ".join(re.sub(r"\d[\d,]*", "…", text).split())


Progress = Callable[[int, Summary], None]
"""Told after each chunk the number of films done and the summary so far."""


def predict_chunks(
    classifier: Classifier,
    chunks: Iterator[list[Film]],
    *,
    workers: int | None = None,
    wants: Callable[[Film], bool] | None = None,
) -> Iterator[tuple[list[Film], list[Prediction]]]:
    """Predict chunks of films in order, preparing one chunk ahead of the graphs.

    Args:
        classifier: the model.
        chunks: films, a chunk at a time; asked for at most two chunks ahead of what was taken.
        workers: threads that read plots and decode posters; None for one a core.
        wants: which films to predict; the others come out with the genres they have and no inputs. None for all.
    """
    with ThreadPoolExecutor(workers or cores(), thread_name_prefix="mmgcs-prepare") as pool:
        waiting: deque[_Chunk] = deque()
        try:
            for films in chunks:
                wanted = [True] * len(films) if wants is None else [wants(film) for film in films]
                chosen = [film for film, want in zip(films, wanted, strict=True) if want]
                groups = [chosen[start : start + GROUP] for start in range(0, len(chosen), GROUP)]
                waiting.append(_Chunk(films, wanted, [pool.submit(classifier.prepare, group) for group in groups]))
                if len(waiting) == 2:
                    yield waiting.popleft().finish(classifier)
            while waiting:
                yield waiting.popleft().finish(classifier)
        finally:
            for chunk in waiting:
                for future in chunk.prepared:
                    future.cancel()


@dataclass(frozen=True, slots=True)
class _Chunk:
    films: list[Film]
    wanted: list[bool]
    prepared: list[Future[list[PreparedFilm]]]

    def finish(self, classifier: Classifier) -> tuple[list[Film], list[Prediction]]:
        features = classifier.features_of([prepared for future in self.prepared for prepared in future.result()])
        made = iter(classifier.decide(classifier.logits(features), features))
        predictions = [
            next(made) if want else Prediction(genres=film.genres or (), warnings=film.warnings)
            for film, want in zip(self.films, self.wanted, strict=True)
        ]
        return self.films, predictions
