"""Prometheus metrics, and the request log."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable

from flask import Flask, Response, g, request
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from mmgcs.film import Prediction
from mmgcs.version import __version__
from mmgcs.web.logs import LOG

PROBES = frozenset({"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
"""Routes for load balancers and operators, which are neither counted nor logged."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_METHODS = frozenset("GET HEAD POST PUT PATCH DELETE OPTIONS".split())
_REASONS = {
    400: "malformed",
    401: "key",
    413: "too_large",
    415: "content_type",
    422: "invalid",
    429: "rate",
    503: "busy",
}

disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The server's metrics, in their own registry so that several applications in one process do not mix."""

    def __init__(self, model: str) -> None:
        self.registry = one = CollectorRegistry()
        ProcessCollector(registry=one)
        build = Info("mmgcs_build", "The version of mmgcs and the model it serves.", registry=one)
        build.info({"version": __version__, "model": model})
        self.requests = Counter("mmgcs_requests", "Requests answered.", ("method", "route", "status"), registry=one)
        self.seconds = Histogram(
            "mmgcs_request_duration_seconds", "Time to answer.", ("route",), registry=one, buckets=_SECONDS
        )
        self.rejected = Counter("mmgcs_requests_rejected", "Requests rejected.", ("reason",), registry=one)
        self.in_flight = Gauge("mmgcs_requests_in_flight", "Requests being answered.", registry=one)
        self.queued = Gauge("mmgcs_queued_requests", "Requests waiting for a thread.", registry=one)
        self.waiting = Gauge("mmgcs_queued_films", "Films waiting for the model.", registry=one)
        self.jobs = Gauge("mmgcs_jobs", "Tables waiting or being tagged.", registry=one)
        self.batch = Histogram(
            "mmgcs_batch_films", "Films per model run.", registry=one, buckets=(1, 2, 4, 8, 16, 32, 64)
        )
        self.predictions = Counter("mmgcs_predictions", "Films predicted.", ("inputs",), registry=one)
        self.chosen = Counter("mmgcs_genres_chosen", "Films for which a genre was predicted.", ("genre",), registry=one)
        self.abstentions = Counter(
            "mmgcs_abstentions", "Films that need review, by their most probable genre.", ("genre",), registry=one
        )

    def count(self, predictions: Iterable[Prediction]) -> None:
        """Count predictions."""
        for prediction in predictions:
            if prediction.error is not None:
                continue
            self.predictions.labels("+".join(prediction.inputs)).inc()
            for genre in prediction.genres:
                self.chosen.labels(genre).inc()
            if not prediction.sure:
                self.abstentions.labels(prediction.top(1)[0]).inc()


def observe_requests(app: Flask, metrics: Metrics) -> None:
    """Count, time and log each request, and give it an id."""

    @app.before_request
    def begin() -> None:
        g.began = time.perf_counter()
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        metrics.in_flight.inc()

    @app.after_request
    def end(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        # The route, not the path: a path is the user's text.
        route = request.url_rule.rule if request.url_rule is not None else "none"
        if route in PROBES:
            return response
        seconds, status = time.perf_counter() - g.began, response.status_code
        method = request.method if request.method in _METHODS else "other"
        metrics.requests.labels(method, route, str(status)).inc()
        metrics.seconds.labels(route).observe(seconds)
        if reason := _REASONS.get(status):
            metrics.rejected.labels(reason).inc()
        fields = {"request_id": g.request_id, "method": method, "route": route, "status": status}
        sizes = {"ms": round(1000 * seconds, 2), "bytes_in": request.content_length or 0}
        LOG.info("request", extra={**fields, **sizes})
        return response

    @app.teardown_request
    def leave(_: BaseException | None) -> None:
        metrics.in_flight.dec()
