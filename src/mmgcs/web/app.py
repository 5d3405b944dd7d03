"""The application factory: settings and a classifier in, a Flask application out."""

from __future__ import annotations

import hashlib
import hmac
import time
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, request
from flask.json.provider import DefaultJSONProvider
from flask_compress import Compress
from flask_cors import CORS
from flask_limiter import ApplicationLimit, Limiter
from flask_limiter.util import get_remote_address
from limits import parse
from werkzeug.datastructures import FileStorage, WWWAuthenticate
from werkzeug.exceptions import TooManyRequests, Unauthorized
from werkzeug.middleware.proxy_fix import ProxyFix

from mmgcs.preprocess import MAX_PIXELS, PosterPixels
from mmgcs.runtime import Classifier, load
from mmgcs.web import api, oip, pages
from mmgcs.web.error_pages import busy, register_error_handlers
from mmgcs.web.monitoring import Metrics, observe_requests
from mmgcs.web.settings import Settings, load_settings
from mmgcs.web.state import State

_STATIC = Path(__file__).parent / "static"

GUARDED = ("POST", "DELETE")
"""Methods that require the API key and count towards the rate limit."""

WRONG_KEYS = parse("20/minute")
"""Wrong keys that one address may send before it has to wait."""

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
    ['Horror', 'Thriller', 'Comedy']

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
    # The version is in the path, not in a query, so that modules keep it when they import each other.
    static = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(_STATIC.iterdir()))).hexdigest()[:12]
    app = Flask(__name__, static_folder=_STATIC, static_url_path=f"/static/{static}")
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
    state = app.extensions["mmgcs"] = State(classifier, settings, metrics)
    _limit_requests(app, state)

    # The hooks below change responses. Flask runs them in reverse order.
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


def _limit_requests(app: Flask, state: State) -> None:
    """Reject requests without the key or too large, too many from one address, and too many at once."""
    settings = state.settings
    limits = []
    if settings.rate:
        window = max(1, round(settings.burst / settings.rate))  # the limiter counts in whole seconds
        count = max(settings.burst, round(settings.rate * window))
        limit = ApplicationLimit(
            f"{count} per {window} seconds",
            exempt_when=lambda: request.method not in GUARDED,
            error_message="too many requests; try again later",
        )
        limits.append(limit)
    counter = Limiter(
        get_remote_address,
        app=app,
        application_limits=list(limits),
        strategy="moving-window",
        storage_uri="memory://",
        headers_enabled=True,
    ).limiter

    @app.before_request
    def check() -> None:
        g.deadline = time.monotonic() + settings.timeout
        request.max_content_length = settings.max_body_of(request.path)
        if request.method not in GUARDED:
            return
        if state.backlog() > settings.queue:
            raise busy("too many requests are waiting")
        if settings.api_key:
            check_key(request.remote_addr or "")

    def check_key(address: str) -> None:
        if not counter.test(WRONG_KEYS, "wrong keys", address):
            raise TooManyRequests("too many wrong API keys from this address; try again in a minute", retry_after=60)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = (token if scheme.lower() == "bearer" else request.headers.get("X-API-Key", "")).strip()
        if hmac.compare_digest(given.encode("utf-8", "replace"), settings.api_key.encode()):
            return
        if given:
            counter.hit(WRONG_KEYS, "wrong keys", address)
        missing = "this server requires an API key; send it as Authorization: Bearer KEY"
        raise Unauthorized(
            "the API key is wrong" if given else missing, www_authenticate=WWWAuthenticate("bearer", {"realm": "mmgcs"})
        )


def _prepare_responses(app: Flask) -> None:
    """Add security headers, and let browsers cache: static files for a year, pages until they change."""

    @app.after_request
    def prepare(response: Response) -> Response:
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        if request.endpoint == "static" and response.status_code in (200, 304):
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        elif request.method not in ("GET", "HEAD"):
            response.headers.setdefault("Cache-Control", "no-store")
        elif response.status_code == 200 and response.mimetype in ("text/html", "application/json"):
            response.headers.setdefault("Cache-Control", "no-cache")  # ask each time; the answer is often 304
            response.add_etag()
            response.make_conditional(request)
        return response
