"""What operators and tools ask: health, readiness, metrics, and the API's description."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from mmgcs.web.api import state
from mmgcs.web.openapi import description

blueprint = Blueprint("operations", __name__)


@blueprint.get("/healthz")
def health() -> Any:
    """The process answers."""
    return {"status": "ok"}


@blueprint.get("/readyz")
def ready() -> Any:
    """200 only where the next request can be predicted."""
    here = state()
    problem = "the server is shutting down" if here.draining else here.problem
    if problem is not None:
        return jsonify(error=problem), 503, {"Retry-After": "5"}
    return {"status": "ready"}


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus metrics."""
    return state().metrics.page()


@blueprint.get("/openapi.json")
def openapi() -> Any:
    """The API's description, OpenAPI 3.1."""
    return jsonify(description(state().settings))
