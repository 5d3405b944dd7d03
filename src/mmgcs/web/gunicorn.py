"""Running the application with gunicorn, where someone's deployment is made for it.

One worker process with threads: tables being tagged, rates and metrics live in a process's memory, and the model uses
every core anyway.
"""

from __future__ import annotations

import importlib.util
import math
import platform
import sys
from pathlib import Path
from typing import Any

from mmgcs.bundle import Bundle
from mmgcs.errors import UsageError
from mmgcs.web.servers import greet
from mmgcs.web.settings import Settings


def serve(model: Path | None, settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM. Ends the process.

    Raises:
        UsageError: gunicorn is not installed, or does not run on this system.
        BundleError: the folder is no bundle.
    """
    if importlib.util.find_spec("fcntl") is None:  # a part of Python that Windows lacks and gunicorn needs
        raise UsageError(f"gunicorn does not run on {platform.system()}; leave --server out")
    try:
        from gunicorn.app.base import BaseApplication

        from mmgcs.web.gunicorn_worker import Log, Worker
    except ImportError:
        raise UsageError('gunicorn is not installed; pip install "mmgcs[gunicorn]", or leave --server out') from None

    if model is not None:
        Bundle(model)  # what is wrong with it is said here, in one line, and not by a worker that ends

    def ready(arbiter: Any) -> None:
        address = arbiter.LISTENERS[0].sock.getsockname()
        greet(str(address[0]), int(address[1]), settings)

    def left(_arbiter: Any, worker: Any) -> None:
        app = getattr(worker, "wsgi", None)
        if app is not None:
            app.extensions["mmgcs"].jobs.close()

    options = {
        "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "worker_class": Worker,
        "logger_class": Log,
        "workers": 1,
        "threads": settings.threads,
        "worker_connections": settings.connections,
        # A worker that does not report is killed; loading a large bundle must not look like that.
        "timeout": max(60, int(settings.timeout + settings.grace)),
        "graceful_timeout": max(1, math.ceil(settings.drain + settings.grace)),
        "loglevel": "warning",
        "when_ready": ready,
        "worker_exit": left,
    }

    class Application(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in options.items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            # Not before the fork: onnxruntime and polars have threads, which a copy of the process lacks.
            from mmgcs.web.app import create_app

            return create_app(model, settings)

    sys.argv = sys.argv[:1]  # gunicorn reads the command line, which is ours
    Application().run()
