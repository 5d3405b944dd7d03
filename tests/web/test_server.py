"""`mmgcs serve` as it is run: a real process, real sockets, SIGTERM."""

from __future__ import annotations

import http.client
import json
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mmgcs.web import Settings

PLOT = "Two detectives hunt a killer through the city"


def test_sigterm_makes_it_unready_answers_what_is_in_flight_and_ends_with_0(tiny_bundle: Path, served: Any) -> None:
    with served(tiny_bundle, MMGCS_DRAIN="1") as (started, port):
        body = json.dumps({"plot": PLOT}).encode()
        slow = socket.create_connection(("127.0.0.1", port), timeout=20)
        head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        slow.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:10])
        probe = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        probe.request("GET", "/readyz")
        ready = probe.getresponse()
        assert ready.status == 200
        ready.read()
        started.send_signal(signal.SIGTERM)
        while True:
            probe.request("GET", "/readyz")
            answer = probe.getresponse()
            answer.read()
            if answer.status == 503:
                break
        slow.sendall(body[10:])
        received = b""
        while b'"genres"' not in received:
            chunk = slow.recv(65_536)
            assert chunk, received
            received += chunk
        assert received.startswith(b"HTTP/1.1 200")
        slow.close()
        probe.close()
        assert started.wait(timeout=20) == 0


def test_where_the_system_has_no_poll_no_more_connections_are_open_than_it_can_wait_for(
    serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(select, "poll")  # as on Windows
    with serving(Settings(connections=1000)) as running:
        assert running.ask("/healthz").status == 200
        assert [listener.adj.connection_limit for listener in running.server._listeners] == [500]


def test_a_port_that_is_taken_is_one_line_and_status_2(tiny_bundle: Path, served: Any) -> None:
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
    ("proxies", "forwarded", "statuses"),
    [
        ("0", ["1.1.1.1", "2.2.2.2"], [200, 429]),  # what a client writes is believed by none
        ("1", ["9.9.9.9, 1.1.1.1", "8.8.8.8, 1.1.1.1", "9.9.9.9, 2.2.2.2"], [200, 429, 200]),
        ("2", ["9.9.9.9, 1.1.1.1, 7.7.7.7", "8.8.8.8, 1.1.1.1, 6.6.6.6", "9.9.9.9, 2.2.2.2, 7.7.7.7"], [200, 429, 200]),
    ],
)
def test_x_forwarded_for_is_believed_for_as_many_proxies_as_are_trusted(
    tiny_bundle: Path, served: Any, proxies: str, forwarded: list[str], statuses: list[int]
) -> None:
    """Each address may ask once; the address is the one that the farthest trusted proxy saw."""
    found = []
    limits = {"MMGCS_RATE": "0.0001", "MMGCS_BURST": "1", "MMGCS_DRAIN": "0"}
    with served(tiny_bundle, MMGCS_TRUST_PROXY=proxies, **limits) as (_, port):
        for addresses in forwarded:
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
                headers = {"Content-Type": "application/json", "X-Forwarded-For": addresses}
                connection.request("POST", "/predict", json.dumps({"plot": PLOT}), headers)
                found.append(connection.getresponse().status)
    assert found == statuses


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET http://[x/healthz HTTP/1.1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_in_json(running: Any, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as connection:
        connection.sendall(raw)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
            if b"\r\n\r\n" in received and b"}" in received:
                break
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.split()[1].startswith(b"4")
    assert "error" in json.loads(body)


def test_a_closed_connection_harms_nobody(running: Any) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
    assert running.post("/predict", {"plot": PLOT}).status == 200


def test_probes_are_answered_while_every_thread_is_busy(serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    busy, go = threading.Event(), threading.Event()

    def hold(_: float) -> None:
        busy.set()
        go.wait(30)

    statuses: list[int] = []
    with serving(Settings(threads=2, drain=0.0)) as running:
        monkeypatch.setattr(running.server._state.metrics.batch, "observe", hold)
        clients = [
            threading.Thread(target=lambda: statuses.append(running.post("/predict", {"plot": PLOT}).status))
            for _ in range(5)
        ]
        for client in clients:
            client.start()
        assert busy.wait(30)
        while len(running.server._dispatcher.queue) < 3:  # one at the model, one waits for it, three for a thread
            time.sleep(0.001)
        for path in ("/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"):
            assert running.ask(path).status == 200
        assert statuses == []
        go.set()
        for client in clients:
            client.join()
    assert statuses == [200] * 5


def test_requests_at_once_each_get_their_own_answer(running: Any) -> None:
    plots = {"A haunted village": "Horror", "The singer and a concert": "Music", "Her wedding": "Romance"}
    wrong: list[Any] = []

    def ask(plot: str, genre: str) -> None:
        for _ in range(10):
            answer = running.post("/api/v1/predict", {"plot": plot})
            if answer.status != 200 or answer.json["genres"] != [genre]:
                wrong.append(answer)

    threads = [threading.Thread(target=ask, args=pair) for pair in list(plots.items()) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_table_is_tagged_in_the_background_and_fetched(running: Any) -> None:
    table = f"id,plot,poster\n1,{PLOT},/etc/passwd\n2,,\n3,A haunted village,\n"
    answer = running.ask(
        "/api/v1/batch", _form("../../films.csv", table), {"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert answer.status == 202
    job = answer.json
    while job["state"] in ("waiting", "running"):
        job = running.ask(f"/api/v1/batch/{job['id']}").json
    assert (job["state"], job["done"], job["errors"]) == ("done", 3, 2)
    lines = running.ask(job["result"]).content.decode().splitlines()
    assert len(lines) == 4
    assert "Horror" in lines[3]
    assert "root:" not in "".join(lines)


def test_sigterm_while_a_table_is_tagged_ends_with_0_and_leaves_no_files(
    tiny_bundle: Path, tmp_path: Path, served: Any
) -> None:
    with served(tiny_bundle, MMGCS_DRAIN="0", TMPDIR=str(tmp_path)) as (started, port):
        content = _form("films.csv", "plot\n" + f"{PLOT}\n" * 50_000)
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            connection.request("POST", "/api/v1/batch", content, {"Content-Type": "multipart/form-data; boundary=b"})
            answer = connection.getresponse()
            assert answer.status == 202
            job = json.loads(answer.read())["id"]
            done = 0
            while not done:
                connection.request("GET", f"/api/v1/batch/{job}")
                done = json.loads(connection.getresponse().read())["done"]
        started.send_signal(signal.SIGTERM)
        assert started.wait(timeout=30) == 0
        assert done < 50_000
    assert list(tmp_path.glob("mmgcs-*")) == []


def test_a_request_that_arrives_too_slowly_is_408(serving: Any) -> None:
    with (
        serving(Settings(receive=1.0, drain=0.0)) as running,
        socket.create_connection(("127.0.0.1", running.port), timeout=20) as slow,
    ):
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
        assert running.post("/predict", {"plot": PLOT}).status == 200
        received = b""
        while chunk := slow.recv(65_536):
            received += chunk
    assert received.startswith(b"HTTP/1.1 408")
    assert "in time" in json.loads(received.partition(b"\r\n\r\n")[2])["error"]


def _form(name: str, text: str) -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return f"{head}{text}\r\n--b--\r\n".encode()


def test_a_server_that_is_not_known_is_one_line_and_status_2(tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "mmgcs", "serve", "--model", str(tiny_bundle), "--server", "apache"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "known: gunicorn, waitress" in done.stderr
