"""Running the application with waitress: JSON errors, a bounded queue, and an orderly end."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from flask import Flask
from waitress import create_server, wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import BaseWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask
from waitress.utilities import Error

from mmgcs.errors import UsageError
from mmgcs.web.app import ARRIVED, State, create_app
from mmgcs.web.observing import LOG, log_to_stderr
from mmgcs.web.servers import greet
from mmgcs.web.settings import Settings

PROBES = frozenset({"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
"""What balancers and operators ask; answered also while every thread is busy."""

_TICK = 0.2
_SELECTED = 500
"""Connections at most where the system has no `poll`: Windows waits for up to 512 at once."""
_MESSAGES = {
    408: "the request did not arrive in time; send it again",
    413: "the request is too large; send less",
    431: "the request's headers are too large; send less",
    500: "something went wrong here",
    501: "the request's transfer encoding is not known here",
}


class _JsonErrorTask(ErrorTask):  # type: ignore[misc]
    """What waitress itself refuses (it never reaches the application) is answered as JSON too."""

    def execute(self) -> None:
        error = self.request.error
        body = json.dumps({"error": _MESSAGES.get(error.code, "the request is not HTTP as it should be")}).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Refuses addresses that cannot be taken apart (`http://[x/`), which would close the connection without a word."""

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError("Bad address") from error


class _SlowRequestError(Error):  # type: ignore[misc]
    code = 408
    reason = "Request Timeout"


class _Task(WSGITask):  # type: ignore[misc]
    """Tells the application when the request had arrived, so that waiting for a thread counts as waiting."""

    def get_environment(self) -> dict[str, Any]:
        environment: dict[str, Any] = super().get_environment()
        environment[ARRIVED] = self.channel.arrived
        return environment


class _Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]
    """Gives probes a thread of their own: a server that is only busy must not look dead and be killed."""

    def __init__(self) -> None:
        super().__init__()
        self._probes = ThreadedTaskDispatcher()
        self._probes.set_thread_count(1)

    def add_task(self, task: _Channel) -> None:
        if task.is_probe():
            self._probes.add_task(task)
        else:
            super().add_task(task)

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        self._probes.shutdown(cancel_pending, timeout)
        return bool(super().shutdown(cancel_pending, timeout))


class _Channel(HTTPChannel):  # type: ignore[misc]
    task_class = _Task
    error_task_class = _JsonErrorTask
    parser_class = _Parser
    request: Any = None
    began = 0.0
    arrived = 0.0

    def received(self, data: bytes) -> Any:
        self.arrived = time.monotonic()
        if self.request is None:
            self.began = self.arrived
        return super().received(data)

    def writable(self) -> Any:
        """Whether to be told of room for output: not while a thread sends some.

        It tells the loop by itself if any is left over. Asked meanwhile, the loop could not send and would turn in
        circles, and the threads would wait five milliseconds for Python's lock at each of their steps.
        """
        if self.requests and not self.will_close:
            if not self.outbuf_lock.acquire(blocking=False):
                return False
            self.outbuf_lock.release()
        return super().writable()

    def is_probe(self) -> bool:
        """Whether the request that comes next is an operator's question and not a user's."""
        return bool(self.requests) and getattr(self.requests[0], "path", None) in PROBES

    def refuse_if_slow(self, now: float, seconds: float) -> None:
        """Answer 408 where a request began to arrive longer ago than that and is not whole yet."""
        with self.requests_lock:
            slow = self.request
            if slow is None or self.requests or now - self.began < seconds:
                return
            slow.error, slow.completed = _SlowRequestError(""), True
            self.request = None
            self.requests.append(slow)
        self.server.add_task(self)


class Server:
    """A listening server. `run` answers until `stop` is called or SIGTERM comes, and then ends in order.

    Attributes:
        address: the host and port that it listens on.
    """

    def __init__(self, app: Flask, host: str, port: int, settings: Settings) -> None:
        """Listen.

        Raises:
            UsageError: the address cannot be listened on.
        """
        self._state: State = app.extensions["mmgcs"]
        self._settings = settings
        self._map: dict[int, Any] = {}
        self._dispatcher = _Dispatcher()
        self._dispatcher.set_thread_count(settings.threads)
        self._stopping = threading.Event()
        self._next_look = 0.0
        try:
            create_server(
                app,
                map=self._map,
                _dispatcher=self._dispatcher,
                host=host,
                port=port,
                ident=None,
                connection_limit=settings.connections
                if hasattr(select, "poll")
                else min(settings.connections, _SELECTED),
                backlog=2048,
                channel_timeout=max(10, int(settings.timeout)),
                cleanup_interval=5,
                # The application gives a table more room than other requests.
                max_request_body_size=max(settings.max_body, settings.max_table) + 65_536,
                max_request_header_size=32_768,
                asyncore_use_poll=True,
                clear_untrusted_proxy_headers=not settings.trust_proxy,
            )
        except (OSError, ValueError) as error:
            self._dispatcher.shutdown()
            raise UsageError(
                f"cannot listen on {host} port {port} ({getattr(error, 'strerror', None) or error}); "
                "choose another --host or --port"
            ) from None
        self._listeners = [item for item in self._map.values() if isinstance(item, BaseWSGIServer)]
        for listener in self._listeners:
            listener.channel_class = _Channel
        self.address = (str(self._listeners[0].effective_host), int(self._listeners[0].effective_port))
        self._state.backlog = lambda: len(self._dispatcher.queue)

    def stop(self) -> None:
        """Begin the end: not ready, then no new connections, then requests in flight answered."""
        self._state.draining = True
        self._stopping.set()

    def run(self) -> bool:
        """Answer requests until told to stop. Returns whether all that was begun was also ended."""
        while not self._stopping.is_set():
            self._loop()
        LOG.info("draining")
        self._loop_until(lambda: False, self._settings.drain)
        for listener in self._listeners:
            wasyncore.dispatcher.close(listener)  # the socket only: its trigger still wakes this loop
        done = self._loop_until(self._idle, self._settings.grace)
        done = self._state.jobs.close() and done
        self._dispatcher.shutdown(timeout=1)
        for item in list(self._map.values()):
            item.close()
        LOG.info("stopped" if done else "stopped with requests unanswered")
        return done

    def _loop(self) -> None:
        wasyncore.loop(timeout=_TICK, use_poll=True, map=self._map, count=1)
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + 1.0
            for item in list(self._map.values()):
                if isinstance(item, _Channel):
                    item.refuse_if_slow(now, self._settings.receive)

    def _loop_until(self, ended: Callable[[], bool], seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not ended():
            if time.monotonic() >= until:
                return False
            self._loop()
        return True

    def _idle(self) -> bool:
        # A channel that has begun to receive, waits for a thread, or has bytes to send is in flight.
        return not any(
            item.requests or item.request is not None or item.total_outbufs_len
            for item in list(self._map.values())
            if isinstance(item, HTTPChannel)
        )


def run_until_signal(server: Server) -> bool:
    """Run a server in the main thread; SIGTERM and SIGINT end it in order. Returns what `Server.run` does."""

    def end(_number: int, _frame: FrameType | None) -> None:
        server.stop()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return server.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve(model: Path | None, settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM, and end in order. Raises UsageError where the address cannot be listened on."""
    log_to_stderr()
    server = Server(create_app(model, settings), host, port, settings)
    greet(*server.address, settings)
    if not run_until_signal(server):
        sys.stderr.flush()
        os._exit(1)  # a thread that is still in the model would abort an orderly exit
