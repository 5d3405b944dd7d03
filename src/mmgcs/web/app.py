"""The application factory: a classifier and settings in, a Flask application out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException
from werkzeug.http import parse_date

from mmgcs.errors import InputError, MmgcsError
from mmgcs.runtime import Classifier, load
from mmgcs.web.batching import Batcher, Turns
from mmgcs.web.errors import BusyError, RequestError
from mmgcs.web.guard import Guard
from mmgcs.web.inspected import Inspected, inspected
from mmgcs.web.jobs import Jobs
from mmgcs.web.observing import LOG, Metrics, observe, without_text
from mmgcs.web.settings import Settings

ARRIVED = "mmgcs.arrived"
"""Where the server puts the time.monotonic() at which a request had arrived."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(slots=True)
class State:
    """What the application's requests share.

    Attributes:
        classifier: the loaded bundle.
        batcher: predicts for many requests.
        explaining: explanations take turns.
        jobs: tables that are tagged in the background.
        settings: the settings.
        metrics: the metrics.
        backlog: tells how many requests wait for a thread.
        draining: the server is going down and should get no new requests.
        problem: why the server cannot predict; None where it can.
        films: the numbers of the films that the model learned from; None where nobody gave them.
    """

    classifier: Classifier
    batcher: Batcher
    explaining: Turns
    jobs: Jobs
    settings: Settings
    metrics: Metrics
    backlog: Callable[[], int] = field(default=lambda: 0)
    draining: bool = False
    problem: str | None = None
    films: Inspected | None = None


def create_app(model: Classifier | str | Path | None = None, settings: Settings | None = None) -> Flask:
    """Make the application.

    >>> app = create_app(bundle)  # doctest: +SKIP
    >>> app.test_client().post("/predict", json={"plot": "A vampire count preys on a village."}).json["genres"]
    ... # doctest: +SKIP
    ['Horror', 'Thriller', 'Drama']

    Args:
        model: a loaded classifier, or a bundle's folder; None for the default bundle.
        settings: the settings; None for those in the environment.

    Raises:
        UsageError, BundleError: the bundle cannot be loaded, or a setting is wrong.
    """
    settings = settings or Settings.from_environment()
    # Reading requests and writing answers shares the cores with the graphs.
    classifier = model if isinstance(model, Classifier) else load(model, spin=False)
    metrics = Metrics()
    batcher = Batcher(
        classifier, capacity=settings.queue, timeout=settings.timeout, observe=lambda size: metrics.batch.observe(size)
    )
    state = State(
        classifier,
        batcher,
        Turns(2, max(1, settings.threads // 2), settings.timeout),
        Jobs(batcher, settings, metrics.count),
        settings,
        metrics,
        films=inspected(settings.data, classifier.bundle.card()),
    )
    app = Flask(__name__)
    app.extensions["mmgcs"] = state
    app.config.update(
        MAX_CONTENT_LENGTH=settings.max_body, MAX_FORM_MEMORY_SIZE=4 * settings.max_plot + 65_536, MAX_FORM_PARTS=16
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.strict_slashes = False
    if settings.trust_proxy:
        from werkzeug.middleware.proxy_fix import ProxyFix

        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.trust_proxy)  # type: ignore[method-assign]
    observe(app, metrics)
    _guard(app, state)
    _answer_errors(app)

    from mmgcs.web import api, oip, operations, pages

    for blueprint in (operations.blueprint, api.blueprint, oip.blueprint, pages.blueprint):
        app.register_blueprint(blueprint)
    _warm_up(state)
    return app


def _warm_up(state: State) -> None:
    """Predict once from each input, so that the first request finds everything loaded and faults show at the start."""
    import io

    from PIL import Image

    from mmgcs.film import Film

    buffer = io.BytesIO()
    Image.new("RGB", (64, 96), "grey").save(buffer, "PNG")
    films = {"plot": Film(plot="A film."), "poster": Film(poster=buffer.getvalue())}
    try:
        answers = state.batcher.predict([films[name] for name in state.classifier.bundle.config.inputs])
        state.problem = next((answer.error for answer in answers if answer.error is not None), None)
    except Exception as error:
        LOG.exception("the model cannot predict")
        state.problem = str(error)


def _guard(app: Flask, state: State) -> None:
    guard = Guard(state.settings)

    @app.before_request
    def check() -> None:
        now = time.monotonic()
        g.until = request.environ.get(ARRIVED, now) + state.settings.timeout
        if request.method not in ("POST", "DELETE"):
            return
        if state.backlog() > state.settings.queue:
            raise BusyError("too many requests are waiting; try again in a moment")
        if now > g.until:
            raise BusyError("the request waited too long for its turn; try again in a moment")
        guard.check(request)

    @app.before_request
    def forget_impossible_dates() -> None:
        # A date beyond the calendar is no condition (RFC 9110, 13.1.3); werkzeug raises OverflowError for it.
        for name in ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_IF_RANGE"):
            try:
                parse_date(request.environ.get(name))
            except (OverflowError, ValueError):
                del request.environ[name]

    @app.after_request
    def secure(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.method != "GET":
            response.headers.setdefault("Cache-Control", "no-store")
        return response


def _answer_errors(app: Flask) -> None:
    def answer(message: str, status: int, retry_after: int | None = None) -> tuple[Response, int]:
        response = jsonify(error=message)
        if retry_after is not None:
            response.headers["Retry-After"] = str(retry_after)
        if status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response, status

    @app.errorhandler(RequestError)
    def refused(error: RequestError) -> Any:
        return answer(str(error), error.status, error.retry_after)

    @app.errorhandler(InputError)
    def unusable(error: InputError) -> Any:
        return answer(str(error), 422)

    @app.errorhandler(MmgcsError)
    def failed(error: MmgcsError) -> Any:
        LOG.error("failed", extra={"fields": {"request_id": g.request_id, "error": str(error)}})
        return answer("the server cannot answer this now", 503, 10)

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Any:
        status = error.code or 500
        if status < 400:
            return error
        messages = {
            404: "there is nothing at this address; /openapi.json lists what there is",
            405: "this address does not take that method; /openapi.json lists what it takes",
            413: "the request is too large; send less",
        }
        body, _ = answer(messages.get(status, (error.description or error.name).splitlines()[0]), status)
        for name, value in error.get_headers():
            if name.lower() == "allow":
                body.headers[name] = value
        return body, status

    @app.errorhandler(Exception)
    def crashed(error: Exception) -> Any:
        LOG.error("crashed", extra={"fields": {"request_id": g.request_id, **without_text(error)}})
        return answer(f"something went wrong here; the request's id is {g.request_id}", 500)
