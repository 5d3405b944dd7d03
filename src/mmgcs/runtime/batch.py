"""Predict many films in order and in constant memory; threads prepare the next chunk while one is predicted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from mmgcs.film import Film, Prediction
from mmgcs.machine import cores
from mmgcs.runtime.classifier import Classifier, PreparedFilm

GROUP = 32
"""Films that a thread prepares at once."""


def predict_chunks(
    classifier: Classifier,
    chunks: Iterator[list[Film]],
    *,
    workers: int | None = None,
    wants: Callable[[Film], bool] = lambda film: True,
) -> Iterator[tuple[list[Film], list[Prediction]]]:
    """Predict chunks of films in order.

    Args:
        classifier: the model.
        chunks: films, a chunk at a time; at most two chunks are read ahead.
        workers: threads that read plots and decode posters; None for one per core.
        wants: returns True for films to predict; the others keep their genres, and get no `inputs`.
    """

    def finish(
        films: list[Film], wanted: list[bool], prepared: list[Future[list[PreparedFilm]]]
    ) -> tuple[list[Film], list[Prediction]]:
        features = classifier.features_of([film for future in prepared for film in future.result()])
        made = iter(classifier.decide(classifier.logits(features), features))
        return films, [
            next(made) if want else Prediction(genres=film.genres or (), warnings=film.warnings)
            for film, want in zip(films, wanted, strict=True)
        ]

    with ThreadPoolExecutor(workers or cores(), thread_name_prefix="mmgcs-prepare") as pool:
        waiting: deque[tuple[list[Film], list[bool], list[Future[list[PreparedFilm]]]]] = deque()
        try:
            for films in chunks:
                wanted = [wants(film) for film in films]
                chosen = [film for film, want in zip(films, wanted, strict=True) if want]
                groups = [chosen[start : start + GROUP] for start in range(0, len(chosen), GROUP)]
                waiting.append((films, wanted, [pool.submit(classifier.prepare, group) for group in groups]))
                if len(waiting) == 2:
                    yield finish(*waiting.popleft())
            while waiting:
                yield finish(*waiting.popleft())
        finally:
            for _, _, prepared in waiting:
                for future in prepared:
                    future.cancel()
