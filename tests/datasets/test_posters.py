"""Posters from real servers that behave, and from ones that do not."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from time import monotonic, time

import polars as pl
import pytest
from http_server import Server, cut, in_turn, picture, send

from mmgcs.datasets.posters import FAILED, PosterOptions, download_posters, poster_stem, with_posters
from mmgcs.errors import UsageError
from mmgcs.http import is_public, retry_after

QUICK = PosterOptions(allow_private=True, retries=2, backoff=0.01, timeout=0.6, max_wait=1.0)


def films(server: Server, **paths: str) -> pl.DataFrame:
    return pl.DataFrame({"id": list(paths), "poster_url": [server.url + path for path in paths.values()]})


def quick(**changes: object) -> PosterOptions:
    return replace(QUICK, **changes)


def reasons(folder: Path) -> dict[str, str]:
    lines = (folder / FAILED).read_text(encoding="utf-8").splitlines()
    return {record["id"]: record["reason"] for record in map(json.loads, lines)}


def test_a_poster_is_written_under_its_films_id_with_the_suffix_of_what_it_is(server, tmp_path):
    server.answers = {"/a": send(picture()), "/b.jpg": send(picture("PNG"))}
    result = download_posters(films(server, one="/a", two="/b.jpg"), tmp_path, QUICK)
    assert (result.downloaded, result.failed) == (2, [])
    assert (tmp_path / "one.jpg").read_bytes() == picture()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.jpg", "two.png"]


def test_a_path_at_tmdb_follows_the_base_address(server, tmp_path):
    server.answers = {"/t/p/w500/x.jpg": send(picture())}
    table = pl.DataFrame({"id": ["7", "8"], "poster_path": ["/x.jpg", None]})
    result = download_posters(table, tmp_path, quick(base_url=f"{server.url}/t/p/w500/"))
    assert (result.downloaded, result.without) == (1, 1)
    assert with_posters(table, tmp_path)["poster"].to_list() == ["7.jpg", None]


def test_a_second_run_fetches_only_what_is_not_there(server, tmp_path):
    server.answers = {"/a": send(picture()), "/b": send(picture())}
    download_posters(films(server, one="/a"), tmp_path, QUICK)
    result = download_posters(films(server, one="/a", two="/b"), tmp_path, QUICK)
    assert (result.already, result.downloaded, server.seen["/a"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("answer", "reason", "tries"),
    [
        (send(b"", 404), "HTTP 404", 1),
        (send(b"", 500), "HTTP 500", 3),
        (send(b"<!DOCTYPE html><html><body>Hello</body></html>"), "the response is a web page, not an image", 1),
        (send(b"neither this nor that"), "is not a picture", 1),
        (send(b""), "is empty", 1),
        (send(picture(size=(600, 900))[:-400]), "is damaged or cut short", 1),
        (cut(picture(), 300), "the connection broke", 3),
        (send(b"", 302, Location="/loop"), "more than 5 redirects", 1),
        (send(b"", 302, Location="file:///etc/passwd"), "the address is not a web address", 1),
        (send(b"", 429, Retry_After="3600"), "HTTP 429, and the server asks to wait 3,600 s", 1),
    ],
)
def test_what_cannot_be_a_poster_is_reported_and_leaves_no_file(server, tmp_path, answer, reason, tries):
    server.answers = {"/x": answer, "/loop": send(b"", 302, Location="/loop")}
    result = download_posters(films(server, one="/x"), tmp_path, QUICK)
    assert result.downloaded == 0
    assert result.failed[0]["reason"].startswith(reason)
    assert (result.failed[0]["tries"], server.seen["/x"]) == (tries, tries)
    assert [file.name for file in tmp_path.iterdir()] == [FAILED]


def test_a_server_that_hangs_and_one_that_drips_are_given_up(server, tmp_path):
    server.answers = {"/hang": server.hang, "/drip": server.drip, "/good": send(picture())}
    result = download_posters(films(server, a="/hang", b="/drip", c="/good"), tmp_path, quick(retries=0))
    assert result.downloaded == 1
    assert reasons(tmp_path) == dict.fromkeys("ab", "no complete response within 0.6 s")


def test_an_answer_that_is_too_large_is_refused_whether_it_says_so_or_not(server, tmp_path):
    def unsaid(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"x" * 200_000)
        handler.close_connection = True

    server.answers = {"/said": send(b"x" * 200_000), "/unsaid": unsaid}
    download_posters(films(server, a="/said", b="/unsaid"), tmp_path, quick(max_bytes=100_000))
    assert reasons(tmp_path) == dict.fromkeys("ab", "larger than 100,000 bytes")


def test_a_server_that_asks_for_patience_gets_it(server, tmp_path):
    server.answers = {"/x": in_turn(send(b"", 429, Retry_After="0"), send(b"", 503), send(picture()))}
    result = download_posters(films(server, one="/x"), tmp_path, QUICK)
    assert (result.downloaded, server.seen["/x"]) == (1, 3)


def test_retry_after_is_read_as_seconds_or_a_date_and_anything_else_counts_as_zero():
    assert retry_after("3") == 3.0
    began = time()
    wait = retry_after(formatdate(began + 1000, usegmt=True))  # whole seconds
    assert 999 - (time() - began) <= wait <= 1000
    past = formatdate(time() - 10, usegmt=True)
    for value in (past, "in a while", "\xb2", "-3", "", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"):
        assert retry_after(value) == 0.0


def test_failed_posters_are_left_alone_until_asked_for_and_then_nothing_else_is_fetched(server, tmp_path):
    server.answers = {"/b": send(picture())}
    table = films(server, one="/a", gone="/gone")
    download_posters(table, tmp_path, QUICK)
    server.answers["/a"] = send(picture())
    again = download_posters(table, tmp_path, QUICK)
    assert (again.left, again.downloaded, server.seen["/a"]) == (2, 0, 1)
    retried = download_posters(pl.concat([table, films(server, two="/b")]), tmp_path, quick(retry_failed=True))
    assert (retried.downloaded, server.seen["/b"]) == (1, 0)
    assert reasons(tmp_path) == {"gone": "HTTP 404"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::1]", "[::ffff:127.0.0.1]"])
def test_private_addresses_are_refused_however_they_are_written(server, tmp_path, host):
    table = pl.DataFrame({"id": ["one"], "poster_url": [f"http://{host}:{server.port}/a"]})
    result = download_posters(table, tmp_path, quick(allow_private=False))
    assert result.downloaded == 0
    assert result.failed[0]["reason"].startswith(("refused: ", "the address is not a web address"))
    assert not server.seen


def test_a_name_is_judged_by_the_address_that_is_connected_to(server, tmp_path, monkeypatch):
    # A rebinding name server answers a public address when asked first and a private one afterwards. Whatever was
    # answered before, the address of the connection decides.
    answers = iter(["93.184.216.34"])
    real = socket.getaddrinfo

    def rebinding(host, port, *arguments, **options):
        address = next(answers, "127.0.0.1") if host in ("posters.example", b"posters.example") else host
        return real(address, port, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert socket.getaddrinfo("posters.example", 80)[0][4][0] == "93.184.216.34"
    table = pl.DataFrame({"id": ["one"], "poster_url": [f"http://posters.example:{server.port}/a"]})
    result = download_posters(table, tmp_path, quick(allow_private=False))
    assert "127.0.0.1 is a private or local address" in result.failed[0]["reason"]
    assert not server.seen


def test_a_redirect_to_a_private_address_is_refused(server, tmp_path, monkeypatch):
    # The first address counts as public for this test, so that its redirect is what is judged.
    monkeypatch.setattr("mmgcs.http.is_public", lambda address: address == "127.0.0.1")
    server.answers = {"/a": send(b"", 302, Location=f"http://127.0.0.2:{server.port}/inside")}
    result = download_posters(films(server, one="/a"), tmp_path, quick(allow_private=False))
    assert result.failed[0]["reason"].startswith("refused: 127.0.0.2")
    assert server.seen == {"/a": 1}


def test_public_addresses_are_told_from_all_others():
    public = "93.184.216.34 2606:2800::1946 64:ff9b::5db8:d822 2002:5db8:d822::"
    assert all(map(is_public, public.split()))
    others = (
        "10.1.2.3 172.16.0.1 192.168.1.1 100.64.0.1 169.254.169.254 0.0.0.0 224.0.0.1 ::1 fd00::1 fe80::1%eth0 "
        "::ffff:10.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1 2002:7f00:1:: 2001:0:5db8:d822::1 2001:db8::1 fec0::1 "
        "::127.0.0.1 ::ffff:0:127.0.0.1 4000::1 no-address"
    )
    assert [address for address in others.split() if is_public(address)] == []


def test_a_film_without_an_id_is_reported_as_its_poster_has_no_name(server, tmp_path):
    server.answers = {"/a": send(picture())}
    table = pl.DataFrame({"id": ["one", None, ""], "poster_url": [f"{server.url}/a"] * 3})
    for _ in range(2):
        result = download_posters(table, tmp_path, QUICK)
        assert result.reasons() == {"the film has no id": 2}
        assert with_posters(table, tmp_path)["poster"].to_list() == ["one.jpg", None, None]


def test_an_id_cannot_lead_out_of_the_folder(server, tmp_path):
    server.answers = {"/a": send(picture())}
    table = pl.DataFrame({"id": ["../../up", ".hidden"], "poster_url": [f"{server.url}/a"] * 2})
    folder = tmp_path / "posters"
    assert download_posters(table, folder, QUICK).downloaded == 2
    assert [file.name for file in tmp_path.iterdir()] == ["posters"]
    assert download_posters(table, folder, QUICK).already == 2
    assert "/" not in poster_stem("a/b")


def test_ids_too_long_for_a_file_name_are_cut_and_still_told_apart(server, tmp_path):
    server.answers = {"/a": send(picture())}
    ids = ["x" * 300, "x" * 299 + "y", "é" * 100, "short"]
    table = pl.DataFrame({"id": ids, "poster_url": [f"{server.url}/a"] * 4})
    assert download_posters(table, tmp_path, QUICK).downloaded == 4
    named = with_posters(table, tmp_path)["poster"].to_list()
    assert sorted(named) == sorted(file.name for file in tmp_path.iterdir())
    assert download_posters(table, tmp_path, QUICK).already == 4
    cut = poster_stem("x" * 300)
    assert poster_stem(cut) != cut


def test_requests_to_one_host_keep_their_pace(server, tmp_path):
    server.answers = {f"/{n}": send(picture()) for n in range(6)}
    began = monotonic()
    result = download_posters(films(server, **{f"f{n}": f"/{n}" for n in range(6)}), tmp_path, quick(rate=20.0))
    assert result.downloaded == 6
    assert monotonic() - began >= 5 / 20  # a lower bound: no machine is too slow for it


def test_a_table_without_addresses_is_refused(server, tmp_path):
    for table in (pl.DataFrame({"id": ["1"]}), pl.DataFrame({"id": ["1", "2"], "poster_url": [None, " "]})):
        with pytest.raises(UsageError, match="needs a column poster_url or poster_path"):
            download_posters(table, tmp_path, QUICK)
