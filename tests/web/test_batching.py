"""Requests that arrive together are run together; each gets its own answer, and none waits forever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mmgcs.film import Film
from mmgcs.runtime import load
from mmgcs.web.batching import Batcher, ConcurrencyLimit
from mmgcs.web.errors import BusyError

PLOTS = {"A haunted village": "Horror", "The singer and a concert": "Music", "Her wedding": "Romance"}


def together(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_concurrent_requests_are_batched_and_each_gets_its_own_prediction(tiny_bundle: Path) -> None:
    sizes: list[int] = []
    batcher = Batcher(load(tiny_bundle), capacity=100, timeout=30, observe=sizes.append)
    wrong: list[object] = []
    pairs = list(PLOTS.items())

    def ask(number: int) -> None:
        plot, genre = pairs[number % 3]
        for _ in range(25):
            (answer,) = batcher.predict([Film(plot=plot)])
            if answer.genres != (genre,):
                wrong.append(answer)

    together(ask, 12)
    assert not wrong
    assert sum(sizes) == 300
    assert max(sizes) > 1


def test_a_single_client_is_never_batched(tiny_bundle: Path) -> None:
    sizes: list[int] = []
    batcher = Batcher(load(tiny_bundle), capacity=1, timeout=30, observe=sizes.append)
    for _ in range(3):
        batcher.predict([Film(plot="A haunted village")])
    assert sizes == [1, 1, 1]


def test_while_the_model_is_busy_few_requests_wait_and_not_forever(tiny_bundle: Path) -> None:
    running, go = threading.Event(), threading.Event()

    def hold(_: int) -> None:
        running.set()
        go.wait(30)

    batcher = Batcher(load(tiny_bundle), capacity=1, timeout=0.2, observe=hold)
    first = threading.Thread(target=batcher.predict, args=([Film(plot="A haunted village")],))
    first.start()
    assert running.wait(30)
    refused: list[str] = []

    def ask(_: int) -> None:
        try:
            batcher.predict([Film(plot="Her wedding")])
        except BusyError as error:
            refused.append(str(error))

    together(ask, 4)
    go.set()
    first.join()
    assert len(refused) == 4
    assert {message.split(";")[0] for message in refused} == {
        "too many films are waiting for the model",
        "the request waited too long for the model",
    }
    assert batcher.predict([Film(plot="Her wedding")])[0].genres == ("Romance",)


def test_a_request_waits_no_longer_than_its_deadline(tiny_bundle: Path) -> None:
    running, go = threading.Event(), threading.Event()

    def hold(_: int) -> None:
        running.set()
        go.wait(30)

    batcher = Batcher(load(tiny_bundle), capacity=9, timeout=600, observe=hold)
    first = threading.Thread(target=batcher.predict, args=([Film(plot="A haunted village")],))
    first.start()
    assert running.wait(30)
    with pytest.raises(BusyError, match="waited too long"):
        batcher.predict([Film(plot="Her wedding")], deadline=time.monotonic() - 1)
    go.set()
    first.join()


def test_slow_work_is_limited_and_few_threads_wait_for_it() -> None:
    limit = ConcurrencyLimit(running=1, waiting=1, timeout=30)
    done: list[str] = []

    def work(_: int) -> None:
        try:
            with limit.slot():
                done.append("worked")
        except BusyError as error:
            done.append(str(error))

    with limit.slot():
        with pytest.raises(BusyError, match="its turn"), limit.slot(deadline=time.monotonic() - 1):
            pass
        one, other = threading.Thread(target=work, args=(0,)), threading.Thread(target=work, args=(1,))
        one.start()
        while limit._waiting == 0:
            time.sleep(0.001)
        other.start()
        other.join()  # refused, while the one still waits
        assert done == ["too many films are waiting to be explained; try again in a moment"]
    one.join()
    assert done[1:] == ["worked"]
    with limit.slot():
        pass
