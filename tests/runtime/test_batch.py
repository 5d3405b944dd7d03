"""Chunks of films are predicted in order, with as many threads as the process may use."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmgcs import load
from mmgcs.film import Film
from mmgcs.machine import cores
from mmgcs.runtime.batch import predict_chunks


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not bind processes to cores")
def test_a_process_bound_to_one_core_reads_and_predicts_with_one_thread(tiny_bundle: Path) -> None:
    def chunks() -> Iterator[list[Film]]:
        for start in range(0, 512, 256):
            yield [Film(id=str(number), plot="a ghost " * 500) for number in range(start, start + 256)]
            working.append(sum(thread.name.startswith("mmgcs-prepare") for thread in threading.enumerate()))

    working: list[int] = []
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cores() == 1
        assert sum(len(films) for films, _ in predict_chunks(load(tiny_bundle), chunks())) == 512
    finally:
        os.sched_setaffinity(0, before)
    assert working == [1, 1]
