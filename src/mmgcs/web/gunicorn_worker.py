"""gunicorn's threaded worker and log, so that they keep what `mmgcs serve` promises. Needs gunicorn."""

from __future__ import annotations

import json
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

from gunicorn.glogging import Logger
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

from mmgcs.web.observing import LOG, log_to_stderr, without_text

if TYPE_CHECKING:
    from mmgcs.web.app import State

_STATUS = {
    errors.LimitRequestLine: "414 URI Too Long",
    errors.LimitRequestHeaders: "431 Request Header Fields Too Large",
    errors.UnsupportedTransferCoding: "501 Not Implemented",
}


class Log(Logger):  # type: ignore[misc]
    """gunicorn's log as JSON lines, without what a user sent."""

    def setup(self, cfg: Any) -> None:
        """Set up as gunicorn does, and then as we do."""
        super().setup(cfg)
        log_to_stderr()


class Worker(ThreadWorker):  # type: ignore[misc]
    """Not ready first and then the end; requests that wait for a thread are counted; errors are JSON."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lock = threading.Lock()
        self._waiting = 0

    def load_wsgi(self) -> None:
        """Load the application, and tell it how many requests wait."""
        super().load_wsgi()
        self._state().backlog = lambda: self._waiting

    def _state(self) -> State:
        found: State = self.wsgi.extensions["mmgcs"]
        return found

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGTERM be not ready, go on for the settings' time, and then end in order."""
        state = self._state()
        state.draining = True
        end = threading.Timer(state.settings.drain, super().handle_exit, (sig, frame))
        end.daemon = True
        end.start()

    def enqueue_req(self, conn: Any) -> None:
        """A request begins to wait."""
        with self._lock:
            self._waiting += 1
        super().enqueue_req(conn)

    def handle(self, conn: Any) -> Any:
        """A thread takes it up."""
        with self._lock:
            self._waiting -= 1
        return super().handle(conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer in JSON, where gunicorn has a page that repeats what was sent."""
        del req, addr
        if isinstance(exc, errors.ParseException):
            status, message = _STATUS.get(type(exc), "400 Bad Request"), "the request is not HTTP as it should be"
        else:
            status, message = "500 Internal Server Error", "something went wrong here"
            LOG.error("failed", extra={"fields": without_text(exc)})
        body = json.dumps({"error": message})
        head = (
            f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        try:
            client.sendall(f"{head}\r\n\r\n{body}".encode())
        except OSError as error:  # it has gone away
            LOG.debug("unanswered", extra={"fields": without_text(error)})
