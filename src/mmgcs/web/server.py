"""Serve the application with waitress, and shut down in order."""

from __future__ import annotations

import ipaddress
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import waitress
from flask import Flask
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer
from waitress.utilities import RequestEntityTooLarge

from mmgcs.errors import UsageError
from mmgcs.web.logs import LOG, log_to_stderr
from mmgcs.web.settings import Settings
from mmgcs.web.state import State

_TICK = 0.1
"""Seconds between two looks at the connections."""

_MAX_SELECT = 500
"""Connections on systems without `poll`: Windows can wait for at most 512 sockets."""


class Server:
    """A listening server.

    Attributes:
        address: the host and port it listens on.
    """

    def __init__(self, app: Flask, host: str, port: int) -> None:
        """Listen on an address.

        Raises:
            UsageError: the address is not available.
        """
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
                max_request_body_size=self._state.guard.max_body("/api/v1/batch"),
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
        next_look = 0.0
        while not done():
            now = time.monotonic()
            if now >= until:
                return False
            wasyncore.loop(timeout=min(_TICK, until - now), use_poll=True, map=self._sockets, count=1)
            if now >= next_look:
                next_look = now + _TICK
                self._reject_bodies()
        return True

    def _channels(self) -> list[HTTPChannel]:
        return [item for item in list(self._sockets.values()) if isinstance(item, HTTPChannel)]

    def _is_idle(self) -> bool:
        return not any(
            channel.requests or channel.request is not None or channel.total_outbufs_len for channel in self._channels()
        )

    def _reject_bodies(self) -> None:
        """Answer 413 to requests whose headers show that their body will not be accepted.

        waitress receives a whole body before the application sees the request, so without this anyone could fill the
        temporary folder.
        """
        for channel in self._channels():
            incoming = channel.request
            if incoming is None or not incoming.headers_finished or channel.requests:
                continue
            length = max(incoming.content_length, incoming.body_bytes_received)
            if self._state.guard.rejects_headers(channel.addr[0], incoming.path, incoming.headers, length):
                with channel.requests_lock:
                    incoming.error = RequestEntityTooLarge("the request is too large, or its API key is missing")
                    incoming.completed = True
                    channel.request = None
                    channel.requests.append(incoming)
                channel.server.add_task(channel)


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
    lines = [f"http://{f'[{host}]' if ':' in host else host}:{port}/  (Ctrl-C to stop)"]
    if not settings.api_key and not _is_loopback(host):
        lines.append("anyone who can reach this port can use it; set MMGCS_API_KEY to require a key, or omit --host")
    print("\n".join(lines), file=sys.stderr, flush=True)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # waitress looked up the name
        return host in ("localhost", "ip6-localhost")
