"""Requests that arrive together are run together: one batch at a time in front of the classifier.

There is no extra thread. A request that finds the model free runs it at once, so a single request never changes
threads; requests that arrive meanwhile wait, and when the model is free the first of them runs all that wait as one
batch. Clients that were answered together often return together, so after a batch of several the next one waits a
moment for them, a small part of the time that the last one took: two half batches cost more than a whole one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mmgcs.film import Film, Prediction
from mmgcs.runtime import BATCH, Classifier, PreparedFilm
from mmgcs.web.errors import BusyError

GATHER = 0.2
"""How long a batch waits for the clients answered last, as a share of the time the last batch took."""
MAX_GATHER = 0.03
"""The longest such wait, in seconds."""


class _Waiting:
    """The films of one request."""

    __slots__ = ("error", "films", "lead", "predictions", "wake")

    def __init__(self, films: Sequence[PreparedFilm]) -> None:
        self.films = films
        self.wake = threading.Event()
        self.lead = False
        self.predictions: list[Prediction] | None = None
        self.error: Exception | None = None


class Batcher:
    """Predict films for many threads.

    Attributes:
        classifier: the loaded bundle.
        waiting: how many films wait for the model.
    """

    def __init__(
        self, classifier: Classifier, *, capacity: int, timeout: float, observe: Callable[[int], None] = lambda _: None
    ) -> None:
        """Put a queue in front of a classifier.

        Args:
            classifier: the loaded bundle.
            capacity: how many films may wait.
            timeout: seconds a request may wait by default.
            observe: called with the size of each batch.
        """
        self.classifier = classifier
        self.waiting = 0
        self._capacity = capacity
        self._timeout = timeout
        self._observe = observe
        self._lock = threading.Lock()
        self._came = threading.Condition(self._lock)
        self._queue: deque[_Waiting] = deque()
        self._busy = False
        self._expected, self._gather_until = 1, 0.0

    def predict(self, films: Sequence[Film], deadline: float | None = None) -> list[Prediction]:
        """Predict films, batched with those of other threads.

        Args:
            films: the films.
            deadline: the time.monotonic() until which they may wait; by default the timeout from now.

        Raises:
            BusyError: too many films are waiting, or these waited too long.
        """
        deadline = time.monotonic() + self._timeout if deadline is None else deadline
        # Decoding and tokenising need no model and run in each request's own thread.
        mine = _Waiting(self.classifier.prepare(films))
        with self._lock:
            if self.waiting and self.waiting + len(films) > self._capacity:
                raise BusyError("too many films are waiting for the model; try again in a moment")
            self._queue.append(mine)
            self.waiting += len(films)
            lead = not self._busy
            self._busy = True
            self._came.notify()
        if not lead:
            lead = self._wait(mine, deadline)
        if lead:
            self._run()
        if mine.error is not None:
            raise mine.error
        assert mine.predictions is not None
        return mine.predictions

    def _wait(self, mine: _Waiting, deadline: float) -> bool:
        """Wait until the request is answered or must run the next batch. Returns True for the latter."""
        if not mine.wake.wait(max(0.0, deadline - time.monotonic())):
            with self._lock:
                if mine in self._queue and not mine.lead:
                    self._queue.remove(mine)
                    self.waiting -= len(mine.films)
                    raise BusyError("the request waited too long for the model; try again in a moment")
            # Its batch is running, or it has just become the lead: the answer is near.
            mine.wake.wait()
        return mine.lead

    def _run(self) -> None:
        """Run one batch, the head of the queue first, and hand over the lead."""
        with self._lock:
            self._gather()
            batch = [self._queue.popleft()]
            count = len(batch[0].films)
            while self._queue and count + len(self._queue[0].films) <= BATCH:
                batch.append(self._queue.popleft())
                count += len(batch[-1].films)
            self.waiting -= count
        began = time.monotonic()
        try:
            self._predict(batch)
            self._observe(count)
        finally:
            with self._lock:
                ended = time.monotonic()
                self._expected = len(batch) + len(self._queue)
                self._gather_until = ended + min(MAX_GATHER, GATHER * (ended - began))
                if self._queue:
                    self._queue[0].lead = True
                    self._queue[0].wake.set()
                else:
                    self._busy = False
            for waiting in batch[1:]:
                waiting.wake.set()

    def _gather(self) -> None:
        """Wait a moment for the clients that were answered last, if there were several."""
        left = self._gather_until - time.monotonic()
        if left > 0:
            self._came.wait_for(lambda: len(self._queue) >= self._expected or self.waiting >= BATCH, left)

    def _predict(self, batch: Sequence[_Waiting]) -> None:
        try:
            features = self.classifier.features_of([film for waiting in batch for film in waiting.films])
            predictions = self.classifier.decide(self.classifier.logits(features), features)
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = error
            else:
                for waiting in batch:  # one request's failure must not become another's
                    self._predict([waiting])
            return
        start = 0
        for waiting in batch:
            waiting.predictions = predictions[start : start + len(waiting.films)]
            start += len(waiting.films)


class ConcurrencyLimit:
    """Let a few threads at a time do slow work, such as explaining, and a few more wait for it.

    A request that waits holds a thread of the server; if all of them waited, nobody else would be answered.
    """

    def __init__(self, running: int, waiting: int, timeout: float) -> None:
        """Set the limits.

        Args:
            running: how many may work at the same time.
            waiting: how many more may wait.
            timeout: seconds they may wait by default.
        """
        self._free = threading.BoundedSemaphore(running)
        self._max_waiting = waiting
        self._timeout = timeout
        self._lock = threading.Lock()
        self._waiting = 0

    @contextmanager
    def slot(self, deadline: float | None = None) -> Iterator[None]:
        """Work once there is a free slot. Raises BusyError if there is none before the time.monotonic() `deadline`."""
        if not self._free.acquire(blocking=False):
            self._wait(time.monotonic() + self._timeout if deadline is None else deadline)
        try:
            yield
        finally:
            self._free.release()

    def _wait(self, deadline: float) -> None:
        with self._lock:
            if self._waiting >= self._max_waiting:
                raise BusyError("too many films are waiting to be explained; try again in a moment")
            self._waiting += 1
        try:
            if not self._free.acquire(timeout=max(0.0, deadline - time.monotonic())):
                raise BusyError("the request waited too long for its turn; try again in a moment")
        finally:
            with self._lock:
                self._waiting -= 1
