"""Predict requests that arrive together in one batch: one thread runs the model on all films that are waiting.

Clients that were answered together often ask again together. So after a batch of several requests, the next batch waits
for them, for a fifth of the time that the last one took, at most 30 ms: two half batches cost more than a whole one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from mmgcs.film import Film, Prediction
from mmgcs.runtime import BATCH, Classifier, PreparedFilm
from mmgcs.web.error_pages import busy

Request = tuple[list[PreparedFilm], Future[list[Prediction]]]
"""The films of a request, and the answer that its thread waits for."""


class Batcher:
    """Predict films for many threads. `waiting` is the number of films waiting for the model."""

    def __init__(self, classifier: Classifier, capacity: int, observe: Callable[[int], object]) -> None:
        """Put a queue for `capacity` films in front of a classifier. `observe` is called with each batch's size."""
        self.waiting = 0
        self._classifier, self._capacity, self._observe = classifier, capacity, observe
        self._queue: deque[Request] = deque()
        self._changed = threading.Condition()
        self._expected, self._gather_until = 1, 0.0
        self._model = ThreadPoolExecutor(1, thread_name_prefix="mmgcs-model")

    def predict(self, films: Sequence[Film], deadline: float) -> list[Prediction]:
        """Predict films, batched with those of other threads.

        Raises:
            ServiceUnavailable: too many films are waiting, or these waited until the time.monotonic() `deadline`.
        """
        # Decoding and tokenizing need no model and run in each request's own thread. A large poster takes a second.
        prepared: list[PreparedFilm] = []
        for film in films:
            if time.monotonic() > deadline:
                raise busy("the films took too long to read")
            prepared += self._classifier.prepare([film])
        answer = Future[list[Prediction]]()
        with self._changed:
            if self.waiting and self.waiting + len(films) > self._capacity:
                raise busy("too many films are waiting for the model")
            self._queue.append((prepared, answer))
            self.waiting += len(films)
            self._changed.notify()
        self._model.submit(self._run)
        try:
            return answer.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            if answer.cancel():
                raise busy("the request waited too long for the model") from None
            return answer.result()  # its batch is already running

    def _run(self) -> None:
        """Run the model once on the waiting films. Called once per request; an earlier run may have answered it."""
        with self._changed:
            if (left := self._gather_until - time.monotonic()) > 0 and self._queue:
                self._changed.wait_for(lambda: len(self._queue) >= self._expected or self.waiting >= BATCH, left)
            batch: list[Request] = []
            count = 0
            while self._queue and (not batch or count + len(self._queue[0][0]) <= BATCH):
                prepared, answer = self._queue.popleft()
                self.waiting -= len(prepared)
                if answer.set_running_or_notify_cancel():
                    batch.append((prepared, answer))
                    count += len(prepared)
        if not batch:
            return
        began = time.monotonic()
        self._predict(batch)
        self._observe(count)
        with self._changed:
            ended = time.monotonic()
            self._expected = len(batch) + len(self._queue)
            self._gather_until = ended + min(0.03, 0.2 * (ended - began))

    def _predict(self, batch: list[Request]) -> None:
        try:
            features = self._classifier.features_of([film for prepared, _ in batch for film in prepared])
            predictions = iter(self._classifier.decide(self._classifier.logits(features), features))
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
            else:
                for request in batch:  # one request's failure must not become another's
                    self._predict([request])
            return
        for prepared, answer in batch:
            answer.set_result([next(predictions) for _ in prepared])
