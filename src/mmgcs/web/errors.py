"""Errors of requests: each becomes `{"error": …}` with its status."""

from __future__ import annotations

from mmgcs.errors import MmgcsError


class RequestError(MmgcsError):
    """A request that cannot be answered as asked. The message is shown to the caller."""

    status = 400
    retry_after: int | None = None


class UnauthorizedError(RequestError):
    """The API key is missing or wrong."""

    status = 401


class NotFoundError(RequestError):
    """There is nothing of that name."""

    status = 404


class TooLargeError(RequestError):
    """The request or a part of it is over a limit."""

    status = 413


class UnsupportedError(RequestError):
    """The content is of a type that is not read here."""

    status = 415


class UnprocessableError(RequestError):
    """The request is well-formed, and says what cannot be done."""

    status = 422


class TooManyError(RequestError):
    """One caller makes more requests than it may."""

    status = 429

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BusyError(RequestError):
    """The server cannot answer now and will soon."""

    status = 503
    retry_after = 1
