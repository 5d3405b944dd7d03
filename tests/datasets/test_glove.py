"""GloVe: interrupted downloads resume, damaged archives are refused, and vectors load."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from http_server import cut, in_turn, send

from mmgcs.datasets.glove import get_glove
from mmgcs.errors import InputError, MmgcsError, UsageError
from mmgcs.http import WebOptions, download
from mmgcs.word_vectors import frequent_words, vectors_of

QUICK = WebOptions(timeout=0.5, retries=2, backoff=0.01, allow_private=True)
ONCE = replace(QUICK, retries=0)
WORDS = ["the", ",", '"', "film", "naïve", "null", "na", "#1"]


def load_glove(path: Path) -> tuple[list[str], np.ndarray]:
    words = frequent_words(path, None)
    return words, vectors_of(path, words)[0]


def text(dimension: int = 50, words: list[str] = WORDS) -> bytes:
    rows = np.random.default_rng(dimension).normal(size=(len(words), dimension)).round(5)
    return "".join(f"{word} {' '.join(map(str, row))}\n" for word, row in zip(words, rows, strict=True)).encode()


def archive(*dimensions: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as bundle:
        for dimension in dimensions:
            bundle.writestr(f"glove.6B.{dimension}d.txt", text(dimension))
    return out.getvalue()


def resumable(body: bytes, first: int, tag: str = '"v1"'):
    """Breaks the first answer off after `first` bytes; then answers a Range as a real server does."""

    def rest(handler):
        wanted = handler.headers.get("Range")
        if wanted is None or handler.headers.get("If-Range") != tag:
            send(body, ETag=tag)(handler)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        send(body[start:], 206, ETag=tag, Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}")(handler)

    return in_turn(cut(body, first, ETag=tag), rest)


def test_only_the_wanted_dimension_is_taken_from_the_archive(server, tmp_path):
    body = archive(50, 100)
    server.answers = {"/glove.6B.zip": send(body)}
    told = []
    path = get_glove(
        tmp_path,
        100,
        url=f"{server.url}/glove.6B.zip",
        sha256=hashlib.sha256(body).hexdigest(),
        options=QUICK,
        progress=lambda done, total: told.append((done, total)),
    )
    words, vectors = load_glove(path)
    assert (words, vectors.shape) == (WORDS, (len(WORDS), 100))
    assert told[-1] == (len(body), len(body))
    assert [file.name for file in tmp_path.iterdir()] == ["glove.6B.100d.txt"]
    assert get_glove(tmp_path, 100, url=f"{server.url}/glove.6B.zip") == path
    assert server.seen["/glove.6B.zip"] == 1


def test_an_interrupted_download_is_resumed(server, tmp_path):
    body = os.urandom(200_000)
    server.answers = {"/f": resumable(body, 120_000)}
    target = tmp_path / "f"
    assert download(f"{server.url}/f", target, options=QUICK).read_bytes() == body
    assert server.headers["/f"]["Range"] == "bytes=120000-"
    assert list(tmp_path.iterdir()) == [target]


def test_a_later_command_resumes_it_too(server, tmp_path):
    body = os.urandom(200_000)
    server.answers = {"/f": resumable(body, 50_000)}
    with pytest.raises(MmgcsError, match=r"50,000 of 200,000 bytes.*again to resume"):
        download(f"{server.url}/f", tmp_path / "f", options=ONCE)
    assert download(f"{server.url}/f", tmp_path / "f", options=QUICK).read_bytes() == body
    assert server.headers["/f"]["Range"] == "bytes=50000-"


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(server, tmp_path):
    old, new = os.urandom(100_000), os.urandom(100_000)
    server.answers = {"/f": in_turn(resumable(old, 40_000, '"old"'), resumable(new, len(new), '"new"'))}
    with pytest.raises(MmgcsError):
        download(f"{server.url}/f", tmp_path / "f", options=ONCE)
    assert download(f"{server.url}/f", tmp_path / "f", options=QUICK).read_bytes() == new


def test_a_server_without_ranges_sends_all_of_it_again(server, tmp_path):
    body = os.urandom(100_000)
    server.answers = {"/f": in_turn(cut(body, 30_000), send(body))}
    assert download(f"{server.url}/f", tmp_path / "f", options=QUICK).read_bytes() == body


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (send(b"", 404), "HTTP 404; check the address"),
        (send(b"", 500), "HTTP 500"),
        (cut(b"x" * 1000, 10), "closed after 10 of 1,000 bytes"),
        (send(b"y" * 1000), "SHA-256 is not"),
    ],
)
def test_a_download_that_is_not_the_file_ends_in_one_clear_line(server, tmp_path, answer, message):
    server.answers = {"/f": answer}
    digest = hashlib.sha256(b"x" * 1000).hexdigest()
    with pytest.raises(MmgcsError, match=message) as caught:
        download(f"{server.url}/f", tmp_path / "f", sha256=digest, options=QUICK)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "f").exists()


def test_servers_that_hang_or_are_not_there_are_given_up(server, tmp_path):
    server.answers = {"/hang": server.hang}
    with pytest.raises(MmgcsError, match=r"no complete response within 0\.5 s"):
        download(f"{server.url}/hang", tmp_path / "f", options=ONCE)
    with pytest.raises(MmgcsError, match="no connection"):
        download("http://127.0.0.1:9/f", tmp_path / "f", options=ONCE)
    with pytest.raises(UsageError, match="not a web address"):
        download("file:///etc/hostname", tmp_path / "f")


def test_a_body_that_never_ends_is_stopped(server, tmp_path):
    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True
        while not server.stopping.is_set():
            handler.wfile.write(b"x" * 50_000)

    server.answers = {"/f": endless}
    options = replace(QUICK, max_bytes=1_000_000)
    with pytest.raises(MmgcsError, match="it sends more than 1,000,000 bytes"):
        download(f"{server.url}/f", tmp_path / "f", options=options)
    assert server.seen["/f"] == 1
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_archive_is_named_as_such(tmp_path):
    whole = archive(50)
    damaged = bytearray(whole)
    damaged[len(whole) // 3] ^= 0xFF
    for body in (whole[: len(whole) // 2], bytes(damaged), b""):
        path = tmp_path / "glove.6B.zip"
        path.write_bytes(body)
        with pytest.raises(InputError, match="damaged or cut short"):
            get_glove(tmp_path / "out", 50, source=path)
        assert not (tmp_path / "out" / "glove.6B.50d.txt").exists()


def test_an_archive_without_the_dimension_says_what_it_holds(tmp_path):
    path = tmp_path / "glove.6B.zip"
    path.write_bytes(archive(50, 200))
    with pytest.raises(InputError, match=r"no 100-dimensional vectors \(it holds glove.6B.50d.txt"):
        get_glove(tmp_path, 100, source=path)
    with pytest.raises(UsageError, match="--dim 128 does not exist"):
        get_glove(tmp_path, 128, source=path)
    with pytest.raises(UsageError, match="is not a file"):
        get_glove(tmp_path, 100, source=tmp_path / "none.zip")
    with pytest.raises(InputError, match="not the expected file"):
        get_glove(tmp_path, 50, source=path, sha256="0" * 64)


@pytest.mark.parametrize("suffix", [".zip", ".txt", ".txt.gz"])
def test_a_file_that_is_here_already_will_do(tmp_path, suffix):
    path = tmp_path / f"mine{suffix}"
    path.write_bytes({".zip": archive(50), ".txt": text(50), ".txt.gz": gzip.compress(text(50))}[suffix])
    words, vectors = load_glove(get_glove(tmp_path / "out", 50, source=path))
    assert (words, vectors.shape) == (WORDS, (len(WORDS), 50))
    assert path.exists()


def test_vectors_of_another_dimension_are_refused(tmp_path):
    (tmp_path / "mine.txt").write_bytes(text(50))
    with pytest.raises(InputError, match="50-dimensional vectors, not 100"):
        get_glove(tmp_path / "out", 100, source=tmp_path / "mine.txt")
    assert not list((tmp_path / "out").iterdir())


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "v.txt"
    for line in (b"b 1 2", b"b 1 x 3"):
        path.write_bytes(b"a 1 2 3\n" + line)
        with pytest.raises(UsageError, match="line 2 is not a word and 3 numbers"):
            load_glove(path)
    path.write_bytes(b"hello\n")
    with pytest.raises(UsageError, match="a line must be a word and its numbers"):
        load_glove(path)
    with pytest.raises(UsageError, match="mmgcs data glove"):
        load_glove(tmp_path / "none.txt")


def test_a_file_that_is_already_in_its_place_is_never_removed(tmp_path):
    path = tmp_path / "glove.6B.50d.txt"
    path.write_bytes(b"hello\n")
    with pytest.raises(UsageError, match="has no word vectors"):
        get_glove(tmp_path, 50, source=path)
    assert path.read_bytes() == b"hello\n"
