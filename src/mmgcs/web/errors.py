"""Errors of requests, and how every error is answered: JSON for programs, a page for people."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, g, jsonify, make_response, render_template, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from mmgcs.errors import InputError, MmgcsError
from mmgcs.web.logs import LOG, describe_error


class RequestError(MmgcsError):
    """A request that cannot be answered as sent. The message is shown to the caller."""

    status = 400
    retry_after: int | None = None


class UnauthorizedError(RequestError):
    """The API key is missing or wrong."""

    status = 401


class NotFoundError(RequestError):
    """The requested thing does not exist."""

    status = 404


class TooLargeError(RequestError):
    """The request, or a part of it, exceeds a limit."""

    status = 413


class UnsupportedError(RequestError):
    """The content type is not supported."""

    status = 415


class UnprocessableError(RequestError):
    """The request is well-formed but asks for something impossible."""

    status = 422


class TooManyError(RequestError):
    """The caller makes too many requests."""

    status = 429
    retry_after = 60


class BusyError(RequestError):
    """The server cannot answer now but soon will."""

    status = 503
    retry_after = 1


_MESSAGES = {
    404: "this address does not exist; see /openapi.json for the ones that do",
    405: "this address does not support that method; see /openapi.json",
    415: "unsupported content type; send JSON with Content-Type: application/json, or a form",
    429: "too many requests; try again later",
}

_HEADINGS = {401: "API key required", 404: "Page not found", 405: "Not a page", 503: "The server is busy"}
"""Headings of error pages."""


def register_error_handlers(app: Flask) -> None:
    """Answer every error of the application with one line and its status, never with a traceback."""

    @app.errorhandler(RequestError)
    def handle_request_error(error: RequestError) -> Response:
        return _answer(str(error), error.status, error.retry_after)

    @app.errorhandler(InputError)
    def handle_input_error(error: InputError) -> Response:
        return _answer(str(error), 422)

    @app.errorhandler(MmgcsError)
    def handle_failure(error: MmgcsError) -> Response:
        LOG.error("failed", extra={"request_id": g.request_id, "error": str(error)})
        return _answer("the server cannot answer this now", 503, 10)

    @app.errorhandler(HTTPException)
    def handle_http_error(error: HTTPException) -> Any:
        status = error.code or 500
        if status < 400:
            return error
        if isinstance(error, RequestEntityTooLarge):
            return _answer(_too_large(), 413)
        response = _answer(_MESSAGES.get(status, (error.description or error.name).splitlines()[0]), status)
        allowed = next((value for name, value in error.get_headers() if name == "Allow"), None)
        if allowed:
            response.headers["Allow"] = allowed
        return response

    @app.errorhandler(Exception)
    def handle_crash(error: Exception) -> Response:
        LOG.error("crashed", extra={"request_id": g.request_id, **describe_error(error)})
        return _answer(f"something went wrong on the server; the request id is {g.request_id}", 500)


def _answer(message: str, status: int, retry_after: int | None = None) -> Response:
    if wants_html():
        response = make_response(
            render_template("error.html", heading=_HEADINGS.get(status, "Something went wrong"), message=message),
            status,
        )
    else:
        response = make_response(jsonify(error=message), status)
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def wants_html() -> bool:
    """Return True if a person's browser asks for a page; programs get JSON."""
    kinds = request.accept_mimetypes
    return request.method in ("GET", "HEAD") and kinds["text/html"] > kinds["application/json"]


def _too_large() -> str:
    limit, length = request.max_content_length, request.content_length
    if limit is not None and length is not None and length > limit:
        return f"the request has {length:,} bytes, over the limit of {limit:,}; send less"
    return "the form has too many parts, or a text field that is too long; send one plot and one poster"
