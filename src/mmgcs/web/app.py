"""The application factory: settings and a classifier in, a Flask application out."""

from __future__ import annotations

import hashlib
import io
import json
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, request
from flask.json.provider import DefaultJSONProvider
from flask_compress import Compress
from flask_cors import CORS
from PIL import Image
from werkzeug.datastructures import FileStorage
from werkzeug.http import parse_date
from werkzeug.middleware.proxy_fix import ProxyFix

from mmgcs.film import Film
from mmgcs.preprocess import PosterPixels
from mmgcs.preprocess.decode import MAX_PIXELS
from mmgcs.runtime import Classifier, load
from mmgcs.web import api, oip, pages
from mmgcs.web.batching import Batcher, ConcurrencyLimit
from mmgcs.web.errors import BusyError, register_error_handlers
from mmgcs.web.guard import GUARDED, Guard
from mmgcs.web.inspected import inspected
from mmgcs.web.jobs import JobQueue
from mmgcs.web.logs import LOG
from mmgcs.web.metrics import Metrics, observe_requests
from mmgcs.web.settings import Settings, load_settings
from mmgcs.web.state import State

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class StrictJSON(DefaultJSONProvider):
    """Flask's JSON, without NaN and with keys in their order."""

    sort_keys = False

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        """Parse JSON. Raises ValueError for NaN, infinity and excessive nesting too."""
        try:
            return json.loads(s, parse_constant=_reject_constant, **kwargs)
        except RecursionError:
            raise ValueError("the JSON is nested too deeply") from None

    @staticmethod
    def default(o: Any) -> Any:  # noqa: D102
        # spectree turns the values of an invalid form into JSON, and these may be files.
        return "" if isinstance(o, bytes | FileStorage) else DefaultJSONProvider.default(o)


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def create_app(model: Classifier | str | Path | None = None, settings: Settings | None = None) -> Flask:
    """Create the application.

    >>> app = create_app(bundle)  # doctest: +SKIP
    >>> app.test_client().post("/predict", json={"plot": "A vampire count preys on a village."}).json["genres"]
    ... # doctest: +SKIP
    ['Horror', 'Thriller', 'Drama']

    Args:
        model: a loaded classifier or a bundle's folder; by default MMGCS_MODEL, or the default bundle.
        settings: the settings; by default those of the environment.

    Raises:
        UsageError, BundleError: a setting is invalid, or the bundle cannot be loaded.
    """
    settings = settings or load_settings()
    # Request handling shares the cores with the graphs, so idle graph threads must not spin.
    classifier = model if isinstance(model, Classifier) else load(model or settings.model, spin=False)
    if settings.max_pixels > MAX_PIXELS:
        PosterPixels.max_pixels = settings.max_pixels
    app = Flask(__name__)
    app.json = StrictJSON(app)
    app.url_map.strict_slashes = False
    app.config.update(
        MAX_FORM_MEMORY_SIZE=4 * settings.max_plot + 65_536,
        MAX_FORM_PARTS=16,
        COMPRESS_ALGORITHM=["br", "gzip"],
        COMPRESS_ALGORITHM_STREAMING=["br", "gzip"],
    )
    metrics = Metrics(classifier.bundle.config.name)
    observe_requests(app, metrics)
    batcher = Batcher(
        classifier, capacity=settings.queue, timeout=settings.timeout, observe=lambda size: metrics.batch.observe(size)
    )
    state = State(
        classifier,
        batcher,
        ConcurrencyLimit(2, max(1, settings.threads // 2), settings.timeout),
        JobQueue(batcher, settings, metrics.count),
        settings,
        metrics,
        Guard(app, settings),
        films=inspected(settings.data, classifier.bundle.card()),
    )
    app.extensions["mmgcs"] = state
    metrics.watch(lambda: state.backlog(), lambda: batcher.waiting, lambda: state.jobs.active)
    _check_requests(app, state)
    # What follows changes responses; the last one comes first.
    _close_connections(app, state)
    Compress(app)
    _prepare_responses(app)
    _cache_static_files(app)
    register_error_handlers(app)
    for blueprint in (api.blueprint, oip.blueprint, pages.blueprint):
        app.register_blueprint(blueprint)
    if settings.cors_origins:
        CORS(
            app,
            origins=settings.cors_origins.split(),
            resources=r"/(?:api/v1|v2|predict).*",
            expose_headers=["Location", "Retry-After", "X-Request-ID"],
        )
    if proxies := settings.trust_proxy:
        wrapped = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies, x_prefix=proxies)
        app.wsgi_app = wrapped  # type: ignore[method-assign]
    _warm_up(state)
    return app


def _check_requests(app: Flask, state: State) -> None:
    @app.before_request
    def check() -> None:
        g.deadline = time.monotonic() + state.settings.timeout
        request.max_content_length = state.guard.max_body(request.path)
        if request.method in GUARDED:
            if state.backlog() > state.settings.queue:
                raise BusyError("too many requests are waiting; try again in a moment")
            state.guard.check_key(request)

    @app.before_request
    def ignore_impossible_dates() -> None:
        # werkzeug raises OverflowError for a date beyond the calendar, which is no condition (RFC 9110, 13.1.3).
        for name in ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_IF_RANGE"):
            try:
                parse_date(request.environ.get(name))
            except (OverflowError, ValueError):
                del request.environ[name]


def _close_connections(app: Flask, state: State) -> None:
    """While the server is shutting down, let clients close their connections."""

    @app.after_request
    def close(response: Response) -> Response:
        if state.draining:
            # waitress sends "Connection: close" with a response that has no length; an application must not send it.
            response.automatically_set_content_length = False
            response.headers.pop("Content-Length", None)
        return response


def _prepare_responses(app: Flask) -> None:
    @app.after_request
    def prepare(response: Response) -> Response:
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        if request.method not in ("GET", "HEAD"):
            response.headers.setdefault("Cache-Control", "no-store")
        elif response.status_code == 200 and response.mimetype in ("text/html", "application/json"):
            response.headers.setdefault("Cache-Control", "no-cache")  # ask each time; the answer is often 304
            response.add_etag()
            response.make_conditional(request)
        return response


def _cache_static_files(app: Flask) -> None:
    """Let browsers keep static files for a year, under addresses that change with their content."""
    folder = Path(str(app.static_folder))

    @lru_cache
    def version_of(name: str) -> str:
        path = folder / name
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else ""

    @app.url_defaults
    def add_version(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static":
            values.setdefault("v", version_of(values["filename"]))

    @app.after_request
    def keep(response: Response) -> Response:
        if request.endpoint == "static" and request.args.get("v") and response.status_code in (200, 304):
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def _warm_up(state: State) -> None:
    """Predict once from each input, so that the first request is fast and faults show at the start."""
    poster = io.BytesIO()
    Image.new("RGB", (64, 96), "grey").save(poster, "PNG")
    films = {"plot": Film(plot="A film."), "poster": Film(poster=poster.getvalue())}
    try:
        predictions = state.batcher.predict([films[name] for name in state.classifier.bundle.config.inputs])
        state.problem = next((found.error for found in predictions if found.error is not None), None)
    except Exception as error:
        LOG.exception("the model cannot predict")
        state.problem = str(error)
