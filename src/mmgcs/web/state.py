"""The state that requests share: the classifier, the queue in front of it, and the tables being tagged."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from flask import current_app, g
from PIL import Image
from werkzeug.exceptions import RequestEntityTooLarge, ServiceUnavailable, UnprocessableEntity

from mmgcs.errors import BundleError, InputError
from mmgcs.film import Film, Prediction
from mmgcs.preprocess import read_poster_size
from mmgcs.runtime import Classifier, Explanation, explain
from mmgcs.web.batching import Batcher
from mmgcs.web.charts import inspected_films
from mmgcs.web.error_pages import busy
from mmgcs.web.jobs import JobQueue
from mmgcs.web.monitoring import Metrics
from mmgcs.web.settings import Settings


class State:
    """The state that requests share.

    Attributes:
        classifier: the loaded bundle.
        settings: the settings.
        metrics: the metrics.
        jobs: tables being tagged in the background.
        films: statistics of the training data; None if there are none for this bundle.
        backlog: returns the number of requests that are waiting for a thread.
        draining: True once the server is shutting down.
    """

    def __init__(self, classifier: Classifier, settings: Settings, metrics: Metrics) -> None:
        self.classifier, self.settings, self.metrics = classifier, settings, metrics
        self._batcher = Batcher(classifier, settings.queue, metrics.batch.observe)
        self.jobs = JobQueue(self._predict_for_job, classifier, settings)
        self.films = inspected_films(settings.data, classifier.bundle.card())
        self.backlog: Callable[[], int] = lambda: 0
        self.draining = False
        # Explaining is slow. If every thread of the server did it or waited for it, no other request would be answered.
        self._explaining = threading.BoundedSemaphore(2)
        self._explain_places = threading.BoundedSemaphore(max(1, settings.threads // 2))
        metrics.queued.set_function(lambda: self.backlog())
        metrics.waiting.set_function(lambda: self._batcher.waiting)
        metrics.jobs.set_function(lambda: self.jobs.active)

    def make_film(
        self, *, plot: str | None = None, title: str | None = None, poster: bytes | str | None = None
    ) -> Film:
        """Return the film of a request. A poster is an image file's bytes, raw or in base64.

        Raises:
            RequestEntityTooLarge: the poster exceeds a limit.
            UnprocessableEntity: the plot is too long, or the poster is not base64.
        """
        settings = self.settings
        if plot is not None and len(plot) > settings.max_plot:
            raise UnprocessableEntity(f"the plot has {len(plot):,} characters, over the limit of {settings.max_plot:,}")
        if isinstance(poster, str):
            encoded = poster.partition(",")[2] if poster.startswith("data:") else poster
            try:
                poster = base64.b64decode("".join(encoded.split()), validate=True)  # many encoders break lines
            except ValueError:
                raise UnprocessableEntity("poster: not base64; send an image file's bytes in base64") from None
        if poster is not None:
            size, limit = len(poster), settings.max_poster
            if size > limit:
                raise RequestEntityTooLarge(f"the poster has {size:,} bytes, over the limit of {limit:,}")
            try:
                read_poster_size(poster, max_pixels=settings.max_pixels)  # reads the header and decodes nothing
            except InputError as error:  # the classifier reports files that are not images
                if "over the limit" in str(error):
                    raise RequestEntityTooLarge(str(error)) from None
        return Film(title=title, plot=plot, poster=poster)

    def predict(self, films: Sequence[Film]) -> list[Prediction]:
        """Predict the films of the current request, and count them. Raises ServiceUnavailable after its timeout."""
        predictions = self._batcher.predict(films, g.deadline)
        self.metrics.count(predictions)
        return predictions

    def explain(self, film: Film, genres: Sequence[str] | None) -> Explanation:
        """Explain the prediction for a film. Raises ServiceUnavailable if too many others are being explained."""
        with (
            _place(self._explain_places, 0.0, "too many films are waiting to be explained"),
            _place(self._explaining, g.deadline - time.monotonic(), "the request waited too long for its turn"),
        ):
            explanation = explain(self.classifier, film, genres)
        self.metrics.count([explanation.prediction])
        return explanation

    def _predict_for_job(self, films: Sequence[Film]) -> list[Prediction]:
        while True:
            try:
                predictions = self._batcher.predict(films, time.monotonic() + self.settings.timeout)
            except ServiceUnavailable:
                time.sleep(0.2)  # single films have priority
                continue
            self.metrics.count(predictions)
            return predictions

    def warm_up(self) -> None:
        """Predict once from each input, so that the first request is fast. Raises BundleError if the model cannot."""
        poster = io.BytesIO()
        Image.new("RGB", (64, 96), "grey").save(poster, "PNG")
        films = {"plot": Film(plot="A film."), "poster": Film(poster=poster.getvalue())}
        for prediction in self.classifier.predict_batch([films[name] for name in self.classifier.bundle.config.inputs]):
            if prediction.error is not None:
                raise BundleError(f"the model cannot predict: {prediction.error}")


@contextmanager
def _place(places: threading.Semaphore, seconds: float, problem: str) -> Iterator[None]:
    """Hold one of the places. Raises ServiceUnavailable if none becomes free in time."""
    if not places.acquire(timeout=max(0.0, seconds)):
        raise busy(problem)
    try:
        yield
    finally:
        places.release()


def state() -> State:
    """Return the state of the current application."""
    found: State = current_app.extensions["mmgcs"]
    return found
