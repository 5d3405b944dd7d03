"""Requests that arrive together are run together; each gets its own answer, and none waits forever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from werkzeug.exceptions import ServiceUnavailable

from mmgcs.film import Film
from mmgcs.runtime import PreparedFilm, load
from mmgcs.web.batching import Batcher

PLOTS = {"A haunted village": "Horror", "The singer and a concert": "Music", "Her wedding": "Romance"}


def soon(seconds: float) -> float:
    return time.monotonic() + seconds


def together(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_concurrent_requests_are_batched_and_each_gets_its_own_prediction(tiny_bundle: Path) -> None:
    sizes: list[int] = []
    batcher = Batcher(load(tiny_bundle), 100, sizes.append)
    for _ in range(3):
        batcher.predict([Film(plot="A haunted village")], soon(30))
    assert sizes == [1, 1, 1]
    wrong: list[object] = []
    pairs = list(PLOTS.items())

    def ask(number: int) -> None:
        plot, genre = pairs[number % 3]
        for _ in range(25):
            (answer,) = batcher.predict([Film(plot=plot)], soon(30))
            if answer.genres != (genre,):
                wrong.append(answer)

    together(ask, 12)
    assert not wrong
    assert sum(sizes) == 303
    assert max(sizes) > 1
    assert batcher.waiting == 0


def test_while_the_model_is_busy_few_requests_wait_and_not_longer_than_their_deadline(tiny_bundle: Path) -> None:
    running, go = threading.Event(), threading.Event()

    def hold(_: int) -> None:
        running.set()
        go.wait(30)

    batcher = Batcher(load(tiny_bundle), 1, hold)
    batcher.predict([Film(plot="A haunted village")], soon(30))
    assert running.wait(30)
    refused: list[str] = []

    def ask(_: int) -> None:
        try:
            batcher.predict([Film(plot="Her wedding")], soon(0.2))
        except ServiceUnavailable as error:
            refused.append(str(error.description))

    together(ask, 4)
    assert {message.split(";")[0] for message in refused} == {
        "too many films are waiting for the model",
        "the request waited too long for the model",
    }
    assert len(refused) == 4
    go.set()
    while batcher.waiting:
        time.sleep(0.01)
    assert batcher.predict([Film(plot="Her wedding")], soon(30))[0].genres == ("Romance",)


def test_films_are_not_read_after_the_deadline(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = load(tiny_bundle)
    prepare, count = classifier.prepare, 0

    def slow(films: Sequence[Film]) -> list[PreparedFilm]:
        nonlocal count
        count += 1
        time.sleep(0.1)
        return prepare(films)

    monkeypatch.setattr(classifier, "prepare", slow)
    with pytest.raises(ServiceUnavailable, match="took too long to read"):
        Batcher(classifier, 100, print).predict([Film(plot="Her wedding")] * 50, soon(0.2))
    assert count < 10
