"""Answer errors with JSON for programs and a page for people. Views raise werkzeug's exceptions."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, current_app, g, render_template, request
from werkzeug.exceptions import HTTPException, InternalServerError, ServiceUnavailable, UnprocessableEntity

from mmgcs.errors import InputError, MmgcsError
from mmgcs.web.logs import LOG, describe_error

_MESSAGES = {
    404: "this address does not exist",
    405: "this address does not support that method",
}
"""Messages in place of werkzeug's own; programs are also pointed to the API's description."""


def busy(problem: str) -> ServiceUnavailable:
    """Return the error for a request that the server has no capacity for right now."""
    return ServiceUnavailable(f"{problem}; try again in a moment", retry_after=1)


def register_error_handlers(app: Flask) -> None:
    """Answer every error of the application with one line and its status, never with a traceback."""

    @app.errorhandler(Exception)
    def handle(error: Exception) -> Any:
        if isinstance(error, HTTPException):
            return error if (error.code or 500) < 400 else _answer(error)
        if isinstance(error, InputError):
            return _answer(UnprocessableEntity(str(error)))
        if isinstance(error, MmgcsError):
            LOG.error("failed", extra={"request_id": g.request_id, "error": str(error)})
            return _answer(ServiceUnavailable("the server cannot answer this now", retry_after=10))
        LOG.error("crashed", extra={"request_id": g.request_id, **describe_error(error)})
        return _answer(InternalServerError(f"something went wrong on the server; the request id is {g.request_id}"))


def _answer(error: HTTPException) -> Response:
    message, hint = (error.description or error.name).splitlines()[0], ""
    if error.description == type(error).description:
        if error.code == 413:
            message = _too_large()
        elif error.code in _MESSAGES:
            message, hint = _MESSAGES[error.code], "; see /openapi.json"
    message = error.description = message.encode(errors="replace").decode()  # JSON can hold half a character
    response = current_app.make_response(error.get_response())  # with Allow, Retry-After or WWW-Authenticate
    kinds = request.accept_mimetypes
    if request.method in ("GET", "HEAD") and kinds["text/html"] > kinds["application/json"]:
        response.data = render_template("error.html", status=error.code, message=message)
        response.content_type = "text/html; charset=utf-8"
    else:
        response.data, response.content_type = current_app.json.dumps({"error": message + hint}), "application/json"
    return response


def _too_large() -> str:
    limit, length = request.max_content_length, request.content_length
    if limit is not None and length is not None and length > limit:
        return f"the request has {length:,} bytes, over the limit of {limit:,}; send less"
    return "the form has too many parts, or a text field that is too long; send one plot and one poster"
