"""What the application's requests share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flask import current_app, g

from mmgcs.film import Film, Prediction
from mmgcs.runtime import Classifier
from mmgcs.web.batching import Batcher, ConcurrencyLimit
from mmgcs.web.guard import Guard
from mmgcs.web.inspected import Inspected
from mmgcs.web.jobs import JobQueue
from mmgcs.web.metrics import Metrics
from mmgcs.web.settings import Settings


@dataclass(slots=True)
class State:
    """What the application's requests share.

    Attributes:
        classifier: the loaded bundle.
        batcher: predicts for many requests.
        explaining: limits how many explanations are computed at the same time.
        jobs: tables being tagged in the background.
        settings: the settings.
        metrics: the metrics.
        guard: checks keys and limits.
        films: statistics of the training data; None if there are none for this bundle.
        backlog: returns how many requests wait for a thread.
        draining: True once the server is shutting down.
        problem: why the server cannot predict; None if it can.
    """

    classifier: Classifier
    batcher: Batcher
    explaining: ConcurrencyLimit
    jobs: JobQueue
    settings: Settings
    metrics: Metrics
    guard: Guard
    films: Inspected | None = None
    backlog: Callable[[], int] = field(default=lambda: 0)
    draining: bool = False
    problem: str | None = None

    def predict(self, films: Sequence[Film]) -> list[Prediction]:
        """Predict the films of the current request, and count them. Raises BusyError after its timeout."""
        predictions = self.batcher.predict(films, g.deadline)
        self.metrics.count(predictions)
        return predictions


def state() -> State:
    """Return the state of the current application."""
    found: State = current_app.extensions["mmgcs"]
    return found
