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

from mmgcs.errors import UsageError
from mmgcs.web.servers import SERVERS
from mmgcs.web.settings import Settings

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
    environment = {**os.environ, "TMPDIR": str(folder), "MMGCS_DRAIN": "2"}
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


def test_a_folder_that_is_no_bundle_is_one_line_and_status_2(tmp_path: Path) -> None:
    with gunicorn(tmp_path, tmp_path) as (process, _):
        _, log = process.communicate(timeout=60)
    assert process.returncode == 2
    assert len(log.splitlines()) == 1
    assert "bundle" in log


def test_where_gunicorn_cannot_run_nobody_is_told_to_install_it(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    with pytest.raises(UsageError, match=r"gunicorn does not run on \w+; leave --server out"):
        SERVERS["gunicorn"](tiny_bundle, Settings(), "127.0.0.1", 0)


def test_on_sigterm_gunicorn_is_not_ready_first_and_answers_what_is_in_flight(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    with gunicorn(tiny_bundle, tmp_path) as (process, port):
        assert ask(port, "GET", "/readyz")[0] == 200
        body = b'{"plot": "A haunted village"}'
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
            slow.sendall(f"{head}\r\n".encode() + body[:5])
            process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + 30
            while ask(port, "GET", "/readyz")[0] != 503:
                assert time.monotonic() < deadline
            slow.sendall(body[5:])
            assert slow.recv(65_536).startswith(b"HTTP/1.1 200")
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"sesame\r\n\r\n", b"400"),
        (b"GET /sesame HTTP/1.1\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", b"431"),
        (b"POST /sesame HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: sesame\r\n\r\n", b"501"),
    ],
)
def test_what_is_not_http_is_refused_in_json_and_not_repeated(
    tiny_bundle: Path, tmp_path: Path, raw: bytes, status: bytes
) -> None:
    with gunicorn(tiny_bundle, tmp_path) as (process, port):
        assert ask(port, "GET", "/healthz")[0] == 200
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(raw)
            received = b"".join(iter(lambda: connection.recv(65_536), b""))
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.split()[1] == status
    assert set(json.loads(body)) == {"error"}
    assert b"sesame" not in received
    assert "sesame" not in log
    assert all(line.startswith(("{", "http://")) for line in log.splitlines())
