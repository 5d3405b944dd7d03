"""The ways to run the application, by name. Importing this loads neither a server nor the application."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable
from pathlib import Path

from mmgcs.registry import Registry
from mmgcs.web.settings import Settings

SERVERS: Registry[Callable[[Path | None, Settings, str, int], None]] = Registry("server")
"""Each way to run the application by its name: a bundle's folder, settings, host and port in, and it serves."""


@SERVERS.register("waitress")
def serve_with_waitress(model: Path | None, settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM, and end in order. Raises UsageError where the address cannot be listened on."""
    from mmgcs.web.server import serve

    serve(model, settings, host, port)


@SERVERS.register("gunicorn")
def serve_with_gunicorn(model: Path | None, settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM, and end the process. Raises UsageError where gunicorn cannot run."""
    from mmgcs.web.gunicorn import serve

    serve(model, settings, host, port)


def greet(host: str, port: int, settings: Settings) -> None:
    """Say on stderr where the server listens, and where anyone who reaches it may ask."""
    # Without network the name of any address is its number.
    lines = [f"http://{f'[{host}]' if ':' in host else host}:{port}/  (Ctrl-C ends)"]
    if not settings.api_key and not _is_loopback(host):
        lines.append("anyone who reaches this port may ask; set MMGCS_API_KEY to ask for a key, or leave --host out")
    print("\n".join(lines), file=sys.stderr, flush=True)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # the system gave its name
        return host in ("localhost", "ip6-localhost")
