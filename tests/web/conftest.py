"""A real server on a free port, and posters."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from mmgcs import load
from mmgcs.bundle import CARD_JSON, seal
from mmgcs.sample import sample_films
from mmgcs.web import Settings, create_app
from mmgcs.web.server import Server

PLOT = "Two detectives hunt a killer through the city"
SETTINGS = Settings(drain=0.1, grace=5.0, threads=8)


@dataclass(frozen=True)
class Running:
    """A server that listens, and how to talk to it."""

    port: int
    url: str
    client: httpx2.Client

    def ask(self, path: str, content: bytes | None = None, headers: dict[str, str] | None = None) -> httpx2.Response:
        return self.client.request("GET" if content is None else "POST", path, content=content, headers=headers)

    def post(self, path: str, value: Any) -> httpx2.Response:
        return self.client.post(path, json=value)


Serving = Callable[..., AbstractContextManager[Running]]


@pytest.fixture(scope="session")
def serving(tiny_bundle: Path) -> Serving:
    @contextmanager
    def start(settings: Settings = SETTINGS, bundle: Path = tiny_bundle, prefix: str = "") -> Iterator[Running]:
        app = create_app(bundle, settings)
        if prefix:
            app.wsgi_app = DispatcherMiddleware(NotFound(), {prefix: app.wsgi_app})
        server = Server(app, "127.0.0.1", 0)
        thread = threading.Thread(target=server.run)
        thread.start()
        port = server.address[1]
        url = f"http://127.0.0.1:{port}{prefix}"
        try:
            with httpx2.Client(base_url=url, timeout=20, trust_env=False) as client:
                yield Running(port, url, client)
        finally:
            server.stop()
            thread.join()

    return start


@pytest.fixture(scope="session")
def running(serving: Serving) -> Iterator[Running]:
    with serving() as found:
        yield found


@pytest.fixture(scope="session")
def client(tiny_bundle: Path) -> FlaskClient:
    return create_app(tiny_bundle, SETTINGS).test_client()


@pytest.fixture(scope="session")
def measured(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with its measurements in its card, so that the pages have scores and curves."""
    from mmgcs.evaluation import evaluate
    from mmgcs.training.card import summarised

    bundle = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("measured") / "bundle"))
    report = evaluate(load(bundle), sample_films(), split="test", bootstrap=50)
    (bundle / CARD_JSON).write_text(json.dumps({"name": "tiny", "evaluation": summarised(report)}))
    seal(bundle)
    return bundle


@pytest.fixture(scope="session")
def poster() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (200, 300), (200, 30, 30)).save(buffer, "JPEG")
    return buffer.getvalue()


@contextmanager
def _process(bundle: Path, *more: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "mmgcs", "serve", "--model", str(bundle), "--port", "0", *more]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
    assert started.stderr is not None
    drain = threading.Thread(target=started.stderr.read)  # a pipe that is full would stop the server
    try:
        line = started.stderr.readline()
        drain.start()
        found = re.search(r":(\d+)/", line)
        assert found, line
        yield started, int(found[1])
    finally:
        started.kill()
        if drain.is_alive():
            drain.join()
        started.stderr.close()
        started.wait()


@pytest.fixture(scope="session")
def served() -> Callable[..., AbstractContextManager[tuple[subprocess.Popen[str], int]]]:
    """`mmgcs serve` as a process of its own, and its port."""
    return _process
