"""TLS is always verified: posters and word vectors come from a server that proves its name, or not at all."""

from __future__ import annotations

import datetime
import io
import ssl
import zipfile
from pathlib import Path

import polars as pl
import pytest
import trustme
from http_server import Server, picture, send

from mmgcs.datasets.glove import get_glove
from mmgcs.datasets.posters import PosterOptions, download_posters
from mmgcs.errors import MmgcsError
from mmgcs.http import WebOptions

VECTORS = "the " + " ".join(["0.5"] * 50) + "\n"


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as bundle:
        bundle.writestr("glove.6B.50d.txt", VECTORS)
    return out.getvalue()


@pytest.fixture(params=["a good one", "of an unknown authority", "of another name", "expired"])
def certificate(request, tmp_path):
    """A server with one kind of certificate, whether it is good, and a file of the authorities that are trusted."""
    authority, kind = trustme.CA(), request.param
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    name = "posters.example" if kind == "of another name" else "127.0.0.1"
    issued = authority.issue_cert(name, not_before=past, not_after=past if kind == "expired" else None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    trusted = tmp_path / "authorities.pem"
    (trustme.CA() if kind == "of an unknown authority" else authority).cert_pem.write_to_path(str(trusted))
    running = Server(context)
    running.answers = {"/a.jpg": send(picture()), "/glove.6B.zip": send(archive())}
    yield running, kind == "a good one", trusted
    running.close()


def test_posters_come_only_from_a_server_that_proves_its_name(certificate, tmp_path, monkeypatch):
    server, good, trusted = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    table = pl.DataFrame({"id": ["one"], "poster_url": [f"{server.url}/a.jpg"]})
    # With the check of addresses and without it: each has a way of its own to connect.
    monkeypatch.setattr("mmgcs.http.is_public", lambda address: True)
    for allow_private in (True, False):
        folder = tmp_path / str(allow_private)
        result = download_posters(table, folder, PosterOptions(allow_private=allow_private))
        assert list(result.reasons()) == ([] if good else ["the server's certificate is not valid"])
        assert (folder / "one.jpg").exists() == good
    assert bool(server.seen) == good


def test_word_vectors_come_only_from_a_server_that_proves_its_name(certificate, tmp_path, monkeypatch):
    server, good, trusted = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))

    def get() -> Path:
        return get_glove(
            tmp_path / "data", 50, url=f"{server.url}/glove.6B.zip", options=WebOptions(timeout=5.0, allow_private=True)
        )

    if good:
        assert get().read_text(encoding="utf-8") == VECTORS
    else:
        with pytest.raises(MmgcsError, match="the server's certificate is not valid") as caught:
            get()
        assert "\n" not in str(caught.value)
        assert not server.seen
        assert not list((tmp_path / "data").glob("*.txt"))


@pytest.mark.parametrize("certificate", ["a good one"], indirect=True)
def test_https_does_not_lead_on_to_http(certificate, server, tmp_path, monkeypatch):
    secure, _, trusted = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    server.answers = {"/glove.6B.zip": send(archive())}
    secure.answers = {"/glove.6B.zip": send(b"", 302, Location=f"{server.url}/glove.6B.zip")}
    with pytest.raises(MmgcsError, match="which is not https"):
        get_glove(tmp_path, 50, url=f"{secure.url}/glove.6B.zip", options=WebOptions(retries=0, allow_private=True))
    assert not server.seen
