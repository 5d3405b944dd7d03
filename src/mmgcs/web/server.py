"""Serve the application with waitress, and shut down gracefully."""

from __future__ import annotations

import ipaddress
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import waitress
from flask import Flask
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer

from mmgcs.errors import UsageError
from mmgcs.web.logs import LOG, log_to_stderr
from mmgcs.web.state import State

RECEIVING = 4
"""How many of the largest allowed bodies may be received at the same time, in all."""
SILENT = 5.0
"""Seconds without traffic after which a connection may have to make room for new ones."""


class Server:
    """A server that listens at `address`, a host and a port.

    waitress receives the whole body, into a temporary file if it is large, before a thread handles the request. So slow
    clients do not block others.
    """

    def __init__(self, app: Flask, host: str, port: int) -> None:
        """Listen on an address. Raises UsageError if it is not available."""
        self._state: State = app.extensions["mmgcs"]
        self._settings = settings = self._state.settings
        self._stopping = threading.Event()
        self._sockets: dict[int, Any] = {}
        # Without `poll`, on Windows, a process can wait for at most 512 sockets.
        self._connections = settings.connections if hasattr(select, "poll") else min(settings.connections, 500)
        try:
            server = waitress.create_server(
                app,
                map=self._sockets,
                host=host,
                port=port,
                threads=settings.threads,
                ident=None,
                connection_limit=self._connections,
                backlog=2048,
                channel_timeout=int(settings.receive),
                cleanup_interval=5,
                max_request_header_size=32_768,
                max_request_body_size=settings.largest_body + 1,
                asyncore_use_poll=True,
                clear_untrusted_proxy_headers=not settings.trust_proxy,
            )
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or error
            raise UsageError(
                f"cannot listen on {host} port {port} ({problem}); choose another --host or --port"
            ) from None
        self._dispatcher = server.task_dispatcher
        self._listeners = [item for item in self._sockets.values() if isinstance(item, BaseWSGIServer)]
        self.address: tuple[str, int] = self._listeners[0].socket.getsockname()[:2]
        self._state.backlog = lambda: len(self._dispatcher.queue)

    def stop(self) -> None:
        """Begin to shut down: report not ready, then stop accepting connections, then finish requests in flight."""
        self._state.draining = True
        self._stopping.set()

    def run(self) -> bool:
        """Answer requests until `stop` is called. Returns True if all requests in flight were answered."""
        self._loop(self._stopping.is_set)
        LOG.info("draining")
        self._loop(lambda: False, self._settings.drain)
        for listener in self._listeners:
            wasyncore.dispatcher.close(listener)  # only its socket: its trigger still wakes the loop
        finished = self._loop(self._is_idle, self._settings.grace)
        finished = self._state.jobs.close() and finished
        self._dispatcher.shutdown(timeout=1)
        for item in list(self._sockets.values()):
            item.close()
        LOG.info("stopped" if finished else "stopped with unanswered requests")
        return finished

    def _loop(self, done: Callable[[], bool], seconds: float = float("inf")) -> bool:
        """Run waitress's loop until `done` returns True. Returns False if that takes longer than `seconds`."""
        until, checked = time.monotonic() + seconds, 0.0
        while not done():
            now = time.monotonic()
            left = until - now
            if left <= 0:
                return False
            wasyncore.loop(timeout=min(0.1, left), use_poll=True, map=self._sockets, count=1)
            if now - checked >= 0.1:  # not after every event: with a thousand connections it takes a while
                self._limit_connections()
                self._limit_uploads()
                checked = now
        return True

    def _channels(self) -> list[HTTPChannel]:
        return [item for item in list(self._sockets.values()) if isinstance(item, HTTPChannel)]

    def _limit_connections(self) -> None:
        """Close the connections that have been silent for longest, so that a tenth of all is free for new ones."""
        excess = len(self._sockets) - int(0.9 * self._connections)
        if excess <= 0:
            return
        before = time.time() - SILENT
        silent = [
            channel
            for channel in self._channels()
            if not channel.requests and not channel.total_outbufs_len and channel.last_activity < before
        ]
        for channel in sorted(silent, key=lambda channel: channel.last_activity)[:excess]:
            _close(channel)

    def _limit_uploads(self) -> None:
        """Close the connections with the largest unfinished bodies, so that they cannot fill the disk."""
        uploads = {channel: channel.request.body_bytes_received for channel in self._channels() if channel.request}
        excess = sum(uploads.values()) - RECEIVING * self._settings.largest_body
        for channel in sorted(uploads, key=uploads.__getitem__, reverse=True):
            if excess <= 0:
                break
            _close(channel)
            excess -= uploads[channel]

    def _is_idle(self) -> bool:
        return not any(
            channel.requests or channel.request is not None or channel.total_outbufs_len for channel in self._channels()
        )


def _close(channel: HTTPChannel) -> None:
    if channel.request is not None:
        channel.request.close()  # deletes its temporary file
    channel.handle_close()


def serve(app: Flask, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C, then shut down gracefully. Raises UsageError if the address is not available."""
    log_to_stderr()
    server = Server(app, host, port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    host, port = server.address
    print(f"http://{f'[{host}]' if ':' in host else host}:{port}/  (Ctrl-C to stop)", file=sys.stderr, flush=True)
    state: State = app.extensions["mmgcs"]
    if not state.settings.api_key and not ipaddress.ip_address(host).is_loopback:
        warning = "anyone who can reach this port can use it; set MMGCS_API_KEY to require a key, or omit --host"
        print(warning, file=sys.stderr, flush=True)
    if not server.run():
        sys.stderr.flush()
        os._exit(1)  # a thread that is still running the model would abort a normal exit
