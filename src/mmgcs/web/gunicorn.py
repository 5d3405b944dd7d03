"""Running the application with gunicorn, where someone's deployment is made for it.

One worker process with threads: tables being tagged, rates and metrics live in a process's memory, and the model uses
every core anyway.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mmgcs.errors import UsageError
from mmgcs.web.app import create_app
from mmgcs.web.observing import log_to_stderr
from mmgcs.web.server import SERVERS, greet
from mmgcs.web.settings import Settings


@SERVERS.register("gunicorn")
def serve_with_gunicorn(model: Path | None, settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM. Ends the process.

    Raises:
        UsageError: gunicorn is not installed.
    """
    try:
        from gunicorn.app.base import BaseApplication
    except ImportError:
        raise UsageError("gunicorn is not installed; pip install gunicorn, or leave --server out") from None

    def ready(arbiter: Any) -> None:
        address = arbiter.LISTENERS[0].sock.getsockname()
        greet(str(address[0]), int(address[1]))

    def left(_arbiter: Any, worker: Any) -> None:
        app = getattr(worker, "wsgi", None)
        if app is not None:
            app.extensions["mmgcs"].jobs.close()

    options = {
        "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "worker_class": "gthread",
        "workers": 1,
        "threads": settings.threads,
        "worker_connections": settings.connections,
        # A worker that does not report is killed; loading a large bundle must not look like that.
        "timeout": max(60, int(settings.timeout + settings.grace)),
        "graceful_timeout": max(1, int(settings.grace)),
        "loglevel": "warning",
        "when_ready": ready,
        "worker_exit": left,
    }

    class Application(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in options.items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            log_to_stderr()
            return create_app(model, settings)

    sys.argv = sys.argv[:1]  # gunicorn reads the command line, which is ours
    Application().run()
