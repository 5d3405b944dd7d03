"""What strangers send: nothing crashes, nothing leaks, and each answer is the right 4xx."""

from __future__ import annotations

import asyncio
import io
import resource
import socket
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import polars as pl
import pytest

from mmgcs.web import Settings, create_app

FORM = {"Content-Type": "multipart/form-data; boundary=b"}


def part(disposition: str, content: bytes | str) -> bytes:
    content = content if isinstance(content, bytes) else content.encode()
    return f"--b\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n--b--\r\n"


@pytest.mark.parametrize("path", ["/predict", "/predict_image", "/api/v1/predict", "/api/v1/batch"])
def test_a_huge_field_and_a_content_type_that_is_not_read_are_rejected(running: Any, path: str) -> None:
    answer = running.ask(path, part('name="plot"', b"a" * 2_000_000), FORM)
    assert answer.status_code in (413, 415)
    assert answer.json()["error"]
    for kind in ("text/html", "application/json-patch", "image/jpeg", "x", "a/b;c"):
        assert running.ask(path, b'{"plot": "A count"}', {"Content-Type": kind}).status_code == 415
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert running.ask(path, b"\x1f\x8b", headers).status_code == 415


@pytest.mark.parametrize("body", [rb'{"plot": "A count", "title": "\ud83d"}', rb'{"\ud83d": "A count"}'])
def test_half_a_character_in_a_value_or_a_key_is_422(running: Any, body: bytes) -> None:
    answer = running.ask("/api/v1/predict", body, {"Content-Type": "application/json"})
    assert (answer.status_code, list(answer.json())) == (422, ["error"])


def test_a_file_sent_as_text_is_named_as_such(running: Any, poster: bytes) -> None:
    text = poster.decode("latin-1")
    answer = running.ask("/api/v1/predict", part('name="poster"', text), FORM)
    assert (answer.status_code, answer.json()["error"]) == (422, "poster: sent as text; send it as a file")
    assert running.ask("/predict_image", part('name="poster"', text), FORM).status_code == 400
    assert running.ask("/api/v1/batch", part('name="file"', "plot\nA count"), FORM).status_code == 422


def test_a_plot_sent_as_a_file_is_read_if_it_is_text(running: Any) -> None:
    name = 'name="plot"; filename="a.txt"'
    assert running.ask("/api/v1/predict", part(name, "A haunted village"), FORM).json()["genres"] == ["Horror"]
    assert running.ask("/api/v1/predict", part(name, b"\xff\xfe"), FORM).status_code == 422


@pytest.mark.parametrize(
    "name", ["../../../../tmp/escape.csv", "..\\..\\escape.csv", "/tmp/escape.csv", "a" * 5_000 + ".csv"]
)
def test_a_table_s_name_leads_nowhere(tiny_bundle: Path, tmp_path: Path, monkeypatch: Any, name: str) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    app = create_app(tiny_bundle, Settings())
    client = app.test_client()
    started = client.post("/api/v1/batch", data={"file": (io.BytesIO(b"plot\nA haunted village\n"), name)}).json
    for file in (path for path in tmp_path.glob("mmgcs-*/*/*") if path.is_file()):
        assert file.name.startswith(("films.csv", "tagged.csv", "."))
    assert not [path for path in tmp_path.iterdir() if "escape" in path.name]
    app.extensions["mmgcs"].jobs.close()
    assert client.get(f"/api/v1/batch/{started['id']}").status_code == 404
    assert not list(tmp_path.glob("mmgcs-*"))


@pytest.mark.parametrize(
    "kind",
    ["whole", "rows", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("texts", "one text"))],
)
def test_a_table_that_unpacks_to_gigabytes_is_rejected_and_others_are_not(
    running: Any, tmp_path: Path, kind: str
) -> None:
    made = {
        "texts": lambda: pl.DataFrame({"plot": ["a" * 2**20]}).select(pl.all().repeat_by(2_000).explode()),
        # Reading this ends in a panic of polars, or in the end of the process.
        "one text": lambda: pl.DataFrame({"plot": ["A killer", "a" * 270 * 2**20]}),
        "rows": lambda: pl.DataFrame({"plot": ["A killer"]}).select(pl.all().repeat_by(1_000_000).explode()),
        "whole": lambda: pl.DataFrame({"plot": ["A haunted village"] * 3}),
    }[kind]()
    table = tmp_path / "films.parquet"
    made.write_parquet(table)
    assert table.stat().st_size < 2**20
    job = running.ask("/api/v1/batch", part('name="file"; filename="films.parquet"', table.read_bytes()), FORM).json()
    while job["state"] in ("waiting", "running"):
        time.sleep(0.05)
        job = running.ask(f"/api/v1/batch/{job['id']}").json()
    if kind == "whole":
        assert (job["state"], job["done"]) == ("done", 3)
    else:
        assert (job["state"], job["done"]) == ("failed", 0)
        assert ("films; send it in parts" if kind == "rows" else "unpacks to over 256 MiB") in job["error"]
        assert running.ask(f"/api/v1/batch/{job['id']}/result").status_code == 422


@pytest.mark.parametrize(
    "path",
    ["/static/%2e%2e/app.py", "/samples/-1", "/samples/99999", "/api/v1/batch/..%2f..%2fetc%2fpasswd/result"],
)
def test_a_path_that_tries_to_get_out_is_404(running: Any, path: str) -> None:
    answer = running.ask(path)
    assert (answer.status_code, set(answer.json())) == (404, {"error"})


def test_a_client_that_reads_nothing_holds_up_nobody(serving: Any) -> None:
    with (
        serving(Settings(threads=1, drain=0.0)) as running,
        socket.create_connection(("127.0.0.1", running.port), timeout=20) as deaf,
    ):
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.setblocking(False)
        try:
            while True:  # ask for pages and leave the answers where they are, until nothing more goes out
                deaf.send(b"GET /api HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        except BlockingIOError:
            pass
        for _ in range(5):
            assert running.post("/predict", {"plot": "A haunted village"}).status_code == 200


CLIENTS = 1_000
PLOTS = {"A haunted village": "Horror", "The singer and a concert": "Music", "Her wedding": "Romance"}


def test_a_thousand_clients_at_once_get_their_own_answer_or_are_told_when_to_come_back(
    tiny_bundle: Path, served: Any
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * CLIENTS)), hard))
    try:
        with served(tiny_bundle, MMGCS_QUEUE="100") as (_, port):
            counts = asyncio.run(_ask_all(port))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert counts["wrong"] == 0
    assert counts["right"] >= 100
    assert counts["right"] + counts["busy"] == CLIENTS


async def _ask_all(port: int) -> Counter[str]:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx2.AsyncClient(limits=limits, timeout=60, verify=False) as client:

        async def ask(plot: str, genre: str) -> str:
            answer = await client.post(f"http://127.0.0.1:{port}/api/v1/predict", json={"plot": plot})
            if answer.status_code == 503 and "Retry-After" in answer.headers:
                return "busy"
            return "right" if answer.status_code == 200 and answer.json()["genres"] == [genre] else "wrong"

        pairs = list(PLOTS.items())
        return Counter(await asyncio.gather(*(ask(*pairs[number % len(pairs)]) for number in range(CLIENTS))))
