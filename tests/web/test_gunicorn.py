"""`mmgcs serve --server gunicorn` answers as with waitress, and ends in order."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

pytest.importorskip("gunicorn")


@contextmanager
def gunicorn(bundle: Path, folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mmgcs",
        "serve",
        "--server",
        "gunicorn",
        "--model",
        str(bundle),
        "--port",
        str(port),
    ]
    environment = {**os.environ, "TMPDIR": str(folder)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield process, port
    finally:
        process.kill()
        process.communicate()


def ask(port: int, method: str, path: str, content: bytes | None = None, kind: str = "") -> tuple[int, bytes]:
    deadline = time.monotonic() + 60
    while True:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            try:
                connection.request(method, path, content, {"Content-Type": kind})
                answer = connection.getresponse()
                return answer.status, answer.read()
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, "it never listened"
                time.sleep(0.05)


def test_gunicorn_predicts_tags_and_ends_with_0_and_no_files_left(tiny_bundle: Path, tmp_path: Path) -> None:
    with gunicorn(tiny_bundle, tmp_path) as (process, port):
        assert ask(port, "GET", "/readyz")[0] == 200
        status, body = ask(port, "POST", "/predict", b'{"plot": "A haunted village"}', "application/json")
        assert status == 200
        assert json.loads(body)["genres"][0] == "Horror"
        table = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="f.csv"\r\n\r\nplot\nA ghost\n\r\n--b--\r\n'
        )
        status, body = ask(port, "POST", "/api/v1/batch", table, "multipart/form-data; boundary=b")
        assert status == 202
        job = json.loads(body)
        while job["state"] in ("waiting", "running"):
            job = json.loads(ask(port, "GET", f"/api/v1/batch/{job['id']}")[1])
        assert job["state"] == "done"
        assert b"Horror" in ask(port, "GET", job["result"])[1]
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
        assert process.returncode == 0
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert {"POST", "GET"} <= {line.get("method") for line in lines}
    assert not list(tmp_path.glob("mmgcs-*"))
