"""`mmgcs serve` as it is run: a real process, real sockets, SIGTERM."""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pytest

from mmgcs.runtime import explain
from mmgcs.web import Settings

PLOT = "Two detectives hunt a killer through the city"


def receive(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    received = b""
    while chunk := connection.recv(65_536):
        received += chunk
    return received


def head_of_post(path: str, length: int, *more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {length}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def test_sigterm_makes_it_unready_finishes_what_is_in_flight_and_ends_with_0(tiny_bundle: Path, served: Any) -> None:
    with served(tiny_bundle, MMGCS_DRAIN="1") as (started, port):
        body = json.dumps({"plot": PLOT}).encode()
        slow = socket.create_connection(("127.0.0.1", port), timeout=20)
        slow.sendall(head_of_post("/predict", len(body)) + body[:10])
        status = 200
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as probe:
            probe.request("GET", "/readyz")
            answer = probe.getresponse()
            answer.read()
            assert (answer.status, answer.headers["Connection"]) == (200, None)
            started.send_signal(signal.SIGTERM)
            while status == 200:
                probe.request("GET", "/readyz")
                answer = probe.getresponse()
                answer.read()
                status = answer.status
            assert answer.headers["Connection"] == "close"  # clients that keep connections open must let go of them
        slow.sendall(body[10:])
        received = receive(slow)
        slow.close()
        assert received.startswith(b"HTTP/1.1 200")
        assert b'"genres"' in received
        assert started.wait(timeout=20) == 0


def test_clients_that_keep_their_connections_open_do_not_delay_the_shutdown(tiny_bundle: Path, served: Any) -> None:
    wrong: list[Any] = []

    def ask_until_closed(port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        with contextlib.closing(connection):
            while True:
                connection.request("POST", "/predict", json.dumps({"plot": PLOT}), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                if b"genres" not in answer.read():
                    wrong.append(answer.status)
                if answer.headers["Connection"] == "close":
                    return

    with served(tiny_bundle, MMGCS_DRAIN="1") as (started, port):
        clients = [threading.Thread(target=ask_until_closed, args=(port,)) for _ in range(8)]
        for client in clients:
            client.start()
        time.sleep(0.5)
        started.send_signal(signal.SIGTERM)
        assert started.wait(timeout=15) == 0
        for client in clients:
            client.join(20)
    assert wrong == []


def test_a_port_in_use_is_one_line_and_status_2(tiny_bundle: Path, served: Any) -> None:
    with served(tiny_bundle) as (_, port):
        again = subprocess.run(
            [sys.executable, "-m", "mmgcs", "serve", "--model", str(tiny_bundle), "--port", str(port)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert again.returncode == 2
    assert "cannot listen" in again.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_malformed_http_and_a_body_over_every_limit_are_refused_at_the_headers(running: Any, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as connection:
        connection.sendall(raw)
        received = b""
        with contextlib.suppress(ConnectionResetError):  # the server does not read the rest
            while chunk := connection.recv(65_536):
                received += chunk
    assert received.split()[1].startswith(b"4")


def test_stalled_uploads_hold_up_nobody_and_are_closed(serving: Any) -> None:
    with serving(Settings(receive=1.0, drain=0.0, threads=2)) as running:
        stalled = [socket.create_connection(("127.0.0.1", running.port), timeout=20) for _ in range(30)]
        for connection in stalled:
            connection.sendall(head_of_post("/predict", 50) + b"{")
        assert running.post("/predict", {"plot": PLOT}).status_code == 200
        for connection in stalled:
            receive(connection)
            connection.close()


def test_silent_connections_make_room_for_new_ones(serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmgcs.web.server.SILENT", 0.1)
    with serving(Settings(connections=20, drain=0.0)) as running, contextlib.ExitStack() as open_ones:
        for _ in range(40):
            silent = socket.create_connection(("127.0.0.1", running.port), timeout=20)
            open_ones.enter_context(silent).sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Le")
        assert running.post("/predict", {"plot": PLOT}).status_code == 200


def test_unfinished_uploads_cannot_fill_the_disk(serving: Any) -> None:
    with serving(Settings(max_body=2**20, max_table=2**20, drain=0)) as running, contextlib.ExitStack() as open_ones:
        address = ("127.0.0.1", running.port)
        body = json.dumps({"plot": PLOT}).encode()
        small = open_ones.enter_context(socket.create_connection(address, timeout=20))
        small.sendall(head_of_post("/predict", len(body), "Connection: close") + body[:10])
        strangers = [open_ones.enter_context(socket.create_connection(address, timeout=20)) for _ in range(10)]
        for stranger in strangers:
            stranger.sendall(head_of_post("/no/such/path", 2**20) + bytes(450_000))
        closed, _, _ = select.select(strangers, [], [], 20)
        assert 1 <= len(closed) < len(strangers)
        small.sendall(body[10:])
        assert receive(small).startswith(b"HTTP/1.1 200")


def test_explanations_leave_threads_for_predictions(serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def explain_later(*given: Any) -> Any:
        released.wait(30)
        return explain(*given)

    monkeypatch.setattr("mmgcs.web.state.explain", explain_later)
    with serving(Settings(threads=4, drain=0.0)) as running, ThreadPoolExecutor() as clients:
        asked = [clients.submit(running.post, "/api/v1/explain", {"plot": PLOT}) for _ in range(4)]
        answers = as_completed(asked, timeout=20)
        try:
            assert [next(answers).result().status_code for _ in range(2)] == [503, 503]
            assert running.post("/predict", {"plot": PLOT}).status_code == 200
        finally:
            released.set()
        assert [answer.result().status_code for answer in answers] == [200, 200]


def test_a_table_is_tagged_in_the_background_and_downloaded(running: Any) -> None:
    table = f"id,story,poster\n1,{PLOT},/etc/passwd\n2,,\n3,A haunted village,\n"
    form = b'--b\r\nContent-Disposition: form-data; name="columns"\r\n\r\nplot=story\r\n'
    form += _form("../../my films.csv", table)
    answer = running.ask("/api/v1/batch", form, {"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/api/v1/batch/{answer.json()['id']}"
    job = answer.json()
    while job["state"] in ("waiting", "running"):
        job = running.ask(f"/api/v1/batch/{job['id']}").json()
    assert (job["state"], job["done"], job["rows"], job["errors"]) == ("done", 3, 3, 1)
    assert job["genres"]["Horror"] == 1
    assert [row["id"] for row in job["preview"]] == ["1", "2", "3"]
    assert job["preview"][2]["genres"] == ["Horror"]
    result = running.ask(job["result"])
    assert "my films-genres.csv" in result.headers["Content-Disposition"]
    lines = result.content.decode().splitlines()
    assert len(lines) == 4
    assert "poster paths in an uploaded table are not read" in lines[1]
    assert "Horror" in lines[3]
    assert "root:" not in "".join(lines)


def test_sigterm_while_a_table_is_tagged_ends_with_0_and_leaves_no_files(
    tiny_bundle: Path, tmp_path: Path, served: Any
) -> None:
    with served(tiny_bundle, MMGCS_DRAIN="0", TMPDIR=str(tmp_path)) as (started, port):
        assert _start_tagging(port) < 50_000
        started.send_signal(signal.SIGTERM)
        assert started.wait(timeout=30) == 0
    assert list(tmp_path.glob("mmgcs-*")) == []


def test_the_tables_of_a_killed_server_are_deleted_by_the_next_and_those_of_a_living_one_kept(
    tiny_bundle: Path, tmp_path: Path, served: Any
) -> None:
    with served(tiny_bundle, TMPDIR=str(tmp_path)) as (killed, port):
        _start_tagging(port)
        killed.kill()
        killed.wait()
        (abandoned,) = tmp_path.glob("mmgcs-tables-*/*/films.csv")
        with served(tiny_bundle, TMPDIR=str(tmp_path)) as (_, port):
            assert not abandoned.exists()
            _start_tagging(port)
            (kept,) = tmp_path.glob("mmgcs-tables-*/*/films.csv")
            with served(tiny_bundle, TMPDIR=str(tmp_path)):
                assert kept.exists()


def _start_tagging(port: int) -> int:
    """Upload a large table and wait until some of it is tagged. Returns how many films."""
    content = _form("films.csv", "plot\n" + f"{PLOT}\n" * 50_000)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("POST", "/api/v1/batch", content, {"Content-Type": "multipart/form-data; boundary=b"})
        answer = connection.getresponse()
        assert answer.status == 202
        job, done = json.loads(answer.read())["id"], 0
        while not done:
            connection.request("GET", f"/api/v1/batch/{job}")
            done = json.loads(connection.getresponse().read())["done"]
    return done


def _form(name: str, text: str) -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return f"{head}{text}\r\n--b--\r\n".encode()
