"""Serve the application with waitress, and shut down in order."""

from __future__ import annotations

import copy
import functools
import ipaddress
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import waitress
from flask import Flask
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import BaseWSGIServer

from mmgcs.errors import UsageError
from mmgcs.web.guard import SMALL_BODY
from mmgcs.web.logs import LOG, log_to_stderr
from mmgcs.web.settings import Settings
from mmgcs.web.state import State

_MAX_SELECT = 500
"""Connections on systems without `poll`: Windows can wait for at most 512 sockets."""


class _Request(HTTPRequestParser):  # type: ignore[misc]
    """A request whose body may be as large as its path and key allow.

    waitress receives a whole body before the application sees the request, so without this anyone could fill the
    temporary folder.
    """

    def __init__(self, adjustments: Any, max_body: Callable[[str, Mapping[str, str]], int]) -> None:
        super().__init__(copy.copy(adjustments))
        self._max_body = max_body

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        if self.chunked or self.content_length > SMALL_BODY:
            self.adj.max_request_body_size = self._max_body(self.path, self.headers) + 1

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        if self.error is not None:
            self.error.to_response = functools.partial(_to_json, self.error, self.adj.max_request_body_size - 1)
        return consumed


def _to_json(error: Any, limit: int, _ident: str | None) -> tuple[str, list[tuple[str, str]], bytes]:
    message = f"not valid HTTP: {error.body}"
    if error.code == 413:
        message = f"the body is over the limit of {limit:,} bytes; send less"
        if limit == SMALL_BODY:
            message = (
                f"the body is over {limit:,} bytes, the limit of this address and of requests without a valid API key"
            )
    body = json.dumps({"error": message}).encode()
    return f"{error.code} {error.reason}", [("Content-Type", "application/json")], body


class _Channel(HTTPChannel):  # type: ignore[misc]
    def parser_class(self, adjustments: Any) -> _Request:  # called by waitress for each request
        return _Request(adjustments, functools.partial(self.server.guard.max_body_after, self.addr[0]))


class Server:
    """A server that listens at `address`, a host and a port."""

    def __init__(self, app: Flask, host: str, port: int) -> None:
        """Listen on an address. Raises UsageError if it is not available."""
        self._state: State = app.extensions["mmgcs"]
        self._settings = settings = self._state.settings
        self._stopping = threading.Event()
        self._sockets: dict[int, Any] = {}
        try:
            server = waitress.create_server(
                app,
                map=self._sockets,
                host=host,
                port=port,
                threads=settings.threads,
                ident=None,
                connection_limit=settings.connections
                if hasattr(select, "poll")
                else min(settings.connections, _MAX_SELECT),
                backlog=2048,
                channel_timeout=int(settings.receive),
                cleanup_interval=5,
                max_request_header_size=32_768,
                asyncore_use_poll=True,
                clear_untrusted_proxy_headers=not settings.trust_proxy,
            )
        except (OSError, ValueError) as error:
            raise UsageError(
                f"cannot listen on {host} port {port} ({getattr(error, 'strerror', None) or error}); "
                "choose another --host or --port"
            ) from None
        self._dispatcher = server.task_dispatcher
        self._listeners = [item for item in self._sockets.values() if isinstance(item, BaseWSGIServer)]
        for listener in self._listeners:
            listener.channel_class, listener.guard = _Channel, self._state.guard
        self.address = (str(self._listeners[0].effective_host), int(self._listeners[0].effective_port))
        self._state.backlog = lambda: len(self._dispatcher.queue)

    def stop(self) -> None:
        """Begin to shut down: report not ready, then stop accepting connections, then finish what is in flight."""
        self._state.draining = True
        self._stopping.set()

    def run(self) -> bool:
        """Answer requests until `stop` is called. Returns whether everything in flight was finished."""
        self._loop(self._stopping.is_set)
        LOG.info("draining")
        self._loop(lambda: False, self._settings.drain)
        for listener in self._listeners:
            wasyncore.dispatcher.close(listener)  # only the socket: its trigger still wakes the loop
        finished = self._loop(self._is_idle, self._settings.grace)
        finished = self._state.jobs.close() and finished
        self._dispatcher.shutdown(timeout=1)
        for item in list(self._sockets.values()):
            item.close()
        LOG.info("stopped" if finished else "stopped with unanswered requests")
        return finished

    def _loop(self, done: Callable[[], bool], seconds: float = float("inf")) -> bool:
        """Run waitress's loop until `done`, or for some seconds. Returns whether it was done."""
        until = time.monotonic() + seconds
        while not done():
            left = until - time.monotonic()
            if left <= 0:
                return False
            wasyncore.loop(timeout=min(0.1, left), use_poll=True, map=self._sockets, count=1)
        return True

    def _is_idle(self) -> bool:
        channels = [item for item in list(self._sockets.values()) if isinstance(item, HTTPChannel)]
        return not any(
            channel.requests or channel.request is not None or channel.total_outbufs_len for channel in channels
        )


def serve(app: Flask, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C, and shut down in order. Raises UsageError if the address is not available."""
    log_to_stderr()
    server = Server(app, host, port)

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    state: State = app.extensions["mmgcs"]
    print_banner(*server.address, state.settings)
    if not server.run():
        sys.stderr.flush()
        os._exit(1)  # a thread that is still in the model would abort an orderly exit


def print_banner(host: str, port: int, settings: Settings) -> None:
    """Print on stderr where the server listens, and whether anyone can use it."""
    print(f"http://{f'[{host}]' if ':' in host else host}:{port}/  (Ctrl-C to stop)", file=sys.stderr, flush=True)
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:  # waitress looked up the name
        local = host in ("localhost", "ip6-localhost")
    if not settings.api_key and not local:
        warning = "anyone who can reach this port can use it; set MMGCS_API_KEY to require a key, or omit --host"
        print(warning, file=sys.stderr, flush=True)
