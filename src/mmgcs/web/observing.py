"""What a running server tells: Prometheus metrics, and one JSON line a request that holds nothing a user wrote."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import traceback
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from flask import Flask, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mmgcs.film import Prediction

LOG = logging.getLogger("mmgcs.web")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_METHODS = frozenset("GET HEAD POST PUT PATCH DELETE OPTIONS".split())


class Metrics:
    """The server's metrics, in a registry of their own so that two applications in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "mmgcs_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "mmgcs_request_seconds", "Time to answer a request.", ("route",), registry=self.registry, buckets=_SECONDS
        )
        self.in_flight = Gauge("mmgcs_requests_in_flight", "Requests being answered.", registry=self.registry)
        self.batch = Histogram(
            "mmgcs_batch_films",
            "Films that the model was run on at once.",
            registry=self.registry,
            buckets=(1, 2, 4, 8, 16, 32, 64),
        )
        self.predictions = Counter("mmgcs_predictions", "Films predicted.", ("inputs",), registry=self.registry)
        self.chosen = Counter(
            "mmgcs_genres_chosen", "Films a genre was chosen for.", ("genre",), registry=self.registry
        )
        self.abstentions = Counter(
            "mmgcs_abstentions",
            "Films the model was not sure of, by their most probable genre.",
            ("genre",),
            registry=self.registry,
        )

    def count(self, predictions: Iterable[Prediction]) -> None:
        """Count what was predicted."""
        for prediction in predictions:
            if prediction.error is not None:
                continue
            self.predictions.labels("+".join(prediction.inputs)).inc()
            for genre in prediction.genres:
                self.chosen.labels(genre).inc()
            if not prediction.sure:
                self.abstentions.labels(prediction.top(1)[0]).inc()

    def page(self) -> Response:
        """The metrics in Prometheus's text format."""
        return Response(generate_latest(self.registry), content_type=CONTENT_TYPE_LATEST)


def without_text(error: BaseException) -> dict[str, str]:
    """What went wrong and where, as fields of the log; the error's message may hold what a user sent."""
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    return {"kind": type(error).__name__, "where": " ".join(places[-8:])}


class JsonLines(logging.Formatter):
    """Log records as JSON, one a line: nothing in a message can start a line of its own.

    A server's own messages may hold a path or a header: of them only the pattern is kept, and the place in its code.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as a JSON object."""
        ours = record.name.startswith("mmgcs")
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage() if ours else str(record.msg) if record.args else record.name,
            **({} if ours else {"from": f"{record.filename}:{record.lineno}"}),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line |= {"exception": self.formatException(record.exc_info)} if ours else without_text(record.exc_info[1])
        return json.dumps(line, ensure_ascii=True)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Write the web side's log, and the servers', to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("mmgcs.web", "waitress", "gunicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
    LOG.setLevel(level)
    # That requests wait for a thread is told by the metrics; a line each would drown the log.
    logging.getLogger("waitress").setLevel(logging.ERROR)


def observe(app: Flask, metrics: Metrics) -> None:
    """Count, time and log each of the application's requests, and give each an id."""

    @app.before_request
    def began() -> None:
        g.began = time.perf_counter()
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        metrics.in_flight.inc()
        g.in_flight = True

    @app.after_request
    def ended(response: Response) -> Response:
        seconds = time.perf_counter() - g.began
        # The rule, not the path: a path is the user's text and without bound.
        route = request.url_rule.rule if request.url_rule is not None else "none"
        method = request.method if request.method in _METHODS else "other"
        metrics.requests.labels(method, route, str(response.status_code)).inc()
        metrics.seconds.labels(route).observe(seconds)
        response.headers["X-Request-ID"] = g.request_id
        if LOG.isEnabledFor(logging.INFO):
            fields = {
                "request_id": g.request_id,
                "method": method,
                "route": route,
                "status": response.status_code,
                "ms": round(1000 * seconds, 2),
                "bytes_in": request.content_length or 0,
            }
            LOG.info("request", extra={"fields": fields})
        return response

    @app.teardown_request
    def left(_: BaseException | None) -> None:
        if g.pop("in_flight", False):
            metrics.in_flight.dec()
