"""Requests that come together are run together: one batch at a time in front of the classifier.

There is no thread of its own. A request that finds the model free runs it at once, so a lone request pays no change of
threads; those that come meanwhile wait, and when the model is free the first of them runs all that wait as one batch.
Clients that were answered together often come back together: so after a batch of several the next one waits a moment
for them, a small part of the time that the last one took, since two half batches cost more than a whole one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mmgcs.film import Film, Prediction
from mmgcs.runtime import Classifier
from mmgcs.runtime.classifier import BATCH, PreparedFilm
from mmgcs.web.errors import BusyError

GATHER = 0.2
"""How long a batch waits for those who were answered last, as a share of the time that the last batch took."""
LONGEST_GATHER = 0.03
"""Seconds that a batch waits at most."""


class _Job:
    __slots__ = ("error", "films", "lead", "predictions", "wake")

    def __init__(self, films: Sequence[PreparedFilm]) -> None:
        self.films = films
        self.wake = threading.Event()
        self.lead = False
        self.predictions: list[Prediction] | None = None
        self.error: Exception | None = None


class Batcher:
    """Predicts films for many threads.

    Attributes:
        classifier: the loaded bundle.
    """

    def __init__(
        self, classifier: Classifier, *, capacity: int, timeout: float, observe: Callable[[int], None] = lambda _: None
    ) -> None:
        """Stand in front of a classifier.

        Args:
            classifier: the loaded bundle.
            capacity: films that may wait.
            timeout: seconds that a request may wait.
            observe: is told the size of each batch.
        """
        self.classifier = classifier
        self._capacity = capacity
        self._timeout = timeout
        self._observe = observe
        self._lock = threading.Lock()
        self._came = threading.Condition(self._lock)
        self._queue: deque[_Job] = deque()
        self._waiting = 0
        self._busy = False
        self._expected, self._gather_until = 1, 0.0

    def predict(self, films: Sequence[Film], until: float | None = None) -> list[Prediction]:
        """Predict films, batched with those of other threads.

        Args:
            films: the films.
            until: the time.monotonic() until which they may wait; None for the timeout from now on.

        Raises:
            BusyError: too many films wait already, or these waited too long.
        """
        until = time.monotonic() + self._timeout if until is None else until
        # Decoding and tokenising need no model, and run in each request's own thread.
        job = _Job(self.classifier.prepare(films))
        with self._lock:
            if self._waiting and self._waiting + len(films) > self._capacity:
                raise BusyError("too many films are waiting for the model; try again in a moment")
            self._queue.append(job)
            self._waiting += len(films)
            lead = not self._busy
            self._busy = True
            self._came.notify()
        if not lead:
            lead = self._wait(job, until)
        if lead:
            self._run()
        if job.error is not None:
            raise job.error
        assert job.predictions is not None
        return job.predictions

    def _wait(self, job: _Job, until: float) -> bool:
        """Wait until the job is done or must lead. Returns whether it must."""
        if not job.wake.wait(max(0.0, until - time.monotonic())):
            with self._lock:
                if job in self._queue and not job.lead:
                    self._queue.remove(job)
                    self._waiting -= len(job.films)
                    raise BusyError("the request waited too long for the model; try again in a moment")
            # Its batch is being run, or it was just told to lead: the answer is near.
            job.wake.wait()
        return job.lead

    def _run(self) -> None:
        """Run one batch, the head of the queue first, and pass the lead on."""
        with self._lock:
            self._gather()
            batch = [self._queue.popleft()]
            count = len(batch[0].films)
            while self._queue and count + len(self._queue[0].films) <= BATCH:
                batch.append(self._queue.popleft())
                count += len(batch[-1].films)
            self._waiting -= count
        began = time.monotonic()
        try:
            self._predict(batch)
            self._observe(count)
        finally:
            with self._lock:
                ended = time.monotonic()
                self._expected = len(batch) + len(self._queue)
                self._gather_until = ended + min(LONGEST_GATHER, GATHER * (ended - began))
                if self._queue:
                    self._queue[0].lead = True
                    self._queue[0].wake.set()
                else:
                    self._busy = False
            for job in batch[1:]:
                job.wake.set()

    def _gather(self) -> None:
        """Wait a moment for those who were answered last, where they were several."""
        left = self._gather_until - time.monotonic()
        if left > 0:
            self._came.wait_for(lambda: len(self._queue) >= self._expected or self._waiting >= BATCH, left)

    def _predict(self, batch: Sequence[_Job]) -> None:
        try:
            features = self.classifier.features_of([film for job in batch for film in job.films])
            predictions = self.classifier.decide(self.classifier.logits(features), features)
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = error
            else:
                for job in batch:  # one request's trouble must not become another's
                    self._predict([job])
            return
        start = 0
        for job in batch:
            job.predictions = predictions[start : start + len(job.films)]
            start += len(job.films)


class Turns:
    """Lets few threads at a time do slow work, such as explaining, and few others wait for it.

    Whoever waits holds a thread of the server; with all of them waiting nobody else would be answered.
    """

    def __init__(self, at_once: int, waiting: int, timeout: float) -> None:
        """Make turns.

        Args:
            at_once: how many work at once.
            waiting: how many may wait.
            timeout: seconds that they may wait where nothing else is said.
        """
        self._free = threading.BoundedSemaphore(at_once)
        self._most = waiting
        self._timeout = timeout
        self._lock = threading.Lock()
        self._waiting = 0

    @contextmanager
    def turn(self, until: float | None = None) -> Iterator[None]:
        """Take a turn, at the latest at the time.monotonic() `until`. Raises BusyError where there is none."""
        if not self._free.acquire(blocking=False):
            self._wait(time.monotonic() + self._timeout if until is None else until)
        try:
            yield
        finally:
            self._free.release()

    def _wait(self, until: float) -> None:
        with self._lock:
            if self._waiting >= self._most:
                raise BusyError("too many films are waiting to be explained; try again in a moment")
            self._waiting += 1
        try:
            if not self._free.acquire(timeout=max(0.0, until - time.monotonic())):
                raise BusyError("the request waited too long for its turn; try again in a moment")
        finally:
            with self._lock:
                self._waiting -= 1
