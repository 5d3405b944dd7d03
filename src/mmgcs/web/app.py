"""The application factory: settings and a classifier in, a Flask application out."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, request
from flask.json.provider import DefaultJSONProvider
from flask_compress import Compress
from flask_cors import CORS
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.middleware.proxy_fix import ProxyFix

from mmgcs.preprocess import MAX_PIXELS, PosterPixels
from mmgcs.runtime import Classifier, load
from mmgcs.web import api, oip, pages
from mmgcs.web.errors import register_error_handlers
from mmgcs.web.guard import GUARDED
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


class _JSON(DefaultJSONProvider):
    sort_keys = False

    @staticmethod
    def default(o: Any) -> Any:
        # spectree turns the values of an invalid form into JSON, and these may be files.
        return "" if isinstance(o, bytes | FileStorage) else DefaultJSONProvider.default(o)


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
    app.json = _JSON(app)
    app.url_map.strict_slashes = False
    app.config.update(
        MAX_FORM_MEMORY_SIZE=4 * settings.max_plot + 65_536,
        MAX_FORM_PARTS=16,
        COMPRESS_ALGORITHM=["br", "gzip"],
        COMPRESS_ALGORITHM_STREAMING=["br", "gzip"],
    )
    metrics = Metrics(classifier.bundle.config.name)
    observe_requests(app, metrics)
    state = app.extensions["mmgcs"] = State(app, classifier, settings, metrics)

    @app.before_request
    def check() -> None:
        g.deadline = time.monotonic() + settings.timeout
        request.max_content_length = state.guard.max_body(request.path)
        if request.method in GUARDED:
            if state.backlog() > settings.queue:
                raise ServiceUnavailable("too many requests are waiting; try again in a moment", retry_after=1)
            headers = request.headers
            state.guard.check_key(
                request.remote_addr or "", headers.get("Authorization", ""), headers.get("X-API-Key", "")
            )

    # What follows changes responses; the last one comes first.
    @app.after_request
    def close_connection(response: Response) -> Response:
        if state.draining:
            # waitress sends "Connection: close" with a response that has no length; an application must not send it.
            response.automatically_set_content_length = False
            response.headers.pop("Content-Length", None)
        return response

    Compress(app)
    _prepare_responses(app)
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
    state.warm_up()
    return app


def _prepare_responses(app: Flask) -> None:
    """Add security headers, and let browsers cache: static files for a year, pages until they change."""
    static = sorted(Path(str(app.static_folder)).iterdir())
    version = hashlib.sha256(b"".join(path.read_bytes() for path in static)).hexdigest()[:12]

    @app.url_defaults
    def add_version(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static":
            values["v"] = version

    @app.after_request
    def prepare(response: Response) -> Response:
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        if request.endpoint == "static" and request.args.get("v") and response.status_code in (200, 304):
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        elif request.method not in ("GET", "HEAD"):
            response.headers.setdefault("Cache-Control", "no-store")
        elif response.status_code == 200 and response.mimetype in ("text/html", "application/json"):
            response.headers.setdefault("Cache-Control", "no-cache")  # ask each time; the answer is often 304
            response.add_etag()
            response.make_conditional(request)
        return response
