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
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
class Answer:
    status: int
    headers: Any
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@dataclass(frozen=True)
class Running:
    """A server that listens, and how to talk to it."""

    server: Server
    port: int
    prefix: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    def ask(self, path: str, content: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        request = urllib.request.Request(self.url + path, content, headers or {})
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return Answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    def post(self, path: str, value: Any) -> Answer:
        return self.ask(path, json.dumps(value).encode(), {"Content-Type": "application/json"})


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
        try:
            yield Running(server, server.address[1], prefix)
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
