"""Missing plots and posters are looked up by id, once, and only if asked for."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_server import Answer, Server, in_turn, picture, send

from mmgcs.cli import main
from mmgcs.errors import MmgcsError, UsageError
from mmgcs.film import Film
from mmgcs.tagging.enrich import Tmdb, enricher

KEY = "0123456789abcdef"
MATRIX = {"id": 603, "title": "The Matrix", "overview": "A hacker and a ghost.", "poster_path": "/m4tr1x.jpg"}
MOVIE = f"/3/movie/603?language=en-US&api_key={KEY}"
FIND = f"/3/find/tt0133093?external_source=imdb_id&language=en-US&api_key={KEY}"
POSTER = "/t/p/w342/m4tr1x.jpg"


def send_json(value: Any) -> Answer:
    return send(json.dumps(value).encode(), Content_Type="application/json")


@pytest.fixture
def tmdb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that answers as TMDB does."""
    server = Server()
    server.answers[MOVIE] = send_json(MATRIX)
    server.answers[FIND] = send_json({"movie_results": [MATRIX], "tv_results": []})
    server.answers[POSTER] = send(picture(), Content_Type="image/jpeg")
    monkeypatch.setenv("TMDB_API_KEY", KEY)
    monkeypatch.setenv("TMDB_API_URL", f"{server.url}/3")
    monkeypatch.setenv("TMDB_IMAGES_URL", f"{server.url}/t/p/w342")
    yield server
    server.close()


@contextlib.contextmanager
def opened(folder: Path, **options: Any) -> Iterator[Tmdb]:
    options = {"backoff": 0.01, "rate": 500.0, "timeout": 2.0, **options}
    with contextlib.closing(enricher("tmdb", cache=folder / "tmdb.sqlite", **options)) as service:
        yield service


def look_up(films: list[Film], folder: Path, **options: Any) -> list[Film]:
    with opened(folder, **options) as service:
        return service(films)


def looking_up() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "portal" in thread.name]


def open_files(folder: Path) -> list[str]:
    held = [os.path.realpath(number) for number in Path("/proc/self/fd").iterdir()]
    return [name for name in held if name.startswith(str(folder))]


@pytest.mark.parametrize(
    "film",
    [
        Film(id="tt0133093"),
        Film(id="7", record={"imdb_id": "tt0133093"}),
        Film(id="7", record={"tmdb_id": 603}),
        Film(id="7", record={"TMDB_ID": "603.0"}),
        Film(id="603", title="the MATRIX"),
    ],
)
def test_a_film_is_found_by_its_tmdb_or_imdb_id(film: Film, tmdb: Server, tmp_path: Path) -> None:
    (found,) = look_up([film], tmp_path)
    assert (found.plot, found.poster) == (MATRIX["overview"], picture())
    assert found.warnings == ("the plot was looked up at TMDB", "the poster was looked up at TMDB")


@pytest.mark.parametrize(
    "film",
    [
        Film(id="603", title="Matrix of another kind"),
        Film(id="603"),
        Film(id="my-film-3", title="The Matrix"),
        Film(id="tt0133093", plot="A plot", poster=b"a poster"),
        Film(id="tt0133093", problem="line 7 is broken"),
    ],
)
def test_a_film_that_is_whole_or_may_be_another_is_left_as_it_is(film: Film, tmdb: Server, tmp_path: Path) -> None:
    assert look_up([film], tmp_path) == [film]
    assert not tmdb.seen[POSTER]


def test_an_answer_is_kept_for_half_a_year_and_the_key_is_not(tmdb: Server, tmp_path: Path) -> None:
    for _ in range(2):
        look_up([Film(id="tt0133093")] + [Film(id="tt0000404")] * 2, tmp_path)
    assert tmdb.seen[FIND] == tmdb.seen[POSTER] == 1
    assert KEY.encode() not in (tmp_path / "tmdb.sqlite").read_bytes()
    with contextlib.closing(sqlite3.connect(tmp_path / "tmdb.sqlite")) as connection, connection:
        connection.execute("update answers set fetched = fetched - 181 * 86400")
    look_up([Film(id="tt0133093")], tmp_path)
    assert tmdb.seen[FIND] == 2


def test_a_token_of_the_newer_kind_goes_into_a_header(
    tmdb: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMDB_API_KEY", "eyJhbGciOi.x.y")
    path = "/3/movie/603?language=en-US"
    tmdb.answers[path] = send_json(MATRIX)
    (found,) = look_up([Film(record={"tmdb_id": "603"})], tmp_path)
    assert found.plot == MATRIX["overview"]
    assert tmdb.headers[path]["Authorization"] == "Bearer eyJhbGciOi.x.y"
    assert "Authorization" not in tmdb.headers[POSTER]


@pytest.mark.parametrize(
    ("answer", "warning"),
    [
        (send(b"", 502), "HTTP 502"),
        (send(b"<html>"), "the response is not a JSON object"),
        (send(b"", 429, Retry_After="3600"), "HTTP 429, and the server asks to wait 3,600 s"),
        (send(b"", 429, Retry_After="²"), "HTTP 429"),
        (send(b"", 302, Location="http://127.0.0.1:1/"), "HTTP 302"),
    ],
)
def test_a_film_that_cannot_be_looked_up_keeps_what_it_has_and_says_why(
    answer: Answer, warning: str, tmdb: Server, tmp_path: Path
) -> None:
    tmdb.answers[FIND] = answer
    (found,) = look_up([Film(id="tt0133093", plot="My own words")], tmp_path, retries=1)
    assert found.plot == "My own words"
    assert found.warnings == (f"the film could not be looked up at TMDB: {warning}",)
    assert KEY not in found.warnings[0]


@pytest.mark.parametrize("address", [FIND, POSTER])
def test_the_sign_in_page_of_a_network_is_no_answer_and_is_not_kept(address: str, tmdb: Server, tmp_path: Path) -> None:
    tmdb.answers[address] = in_turn(send(b"<html>Sign in"), tmdb.answers[address])
    (found,) = look_up([Film(id="tt0133093")], tmp_path)
    assert found.poster is None and "could not be looked up" in found.warnings[-1]
    (found,) = look_up([Film(id="tt0133093")], tmp_path)
    assert (found.plot, found.poster) == (MATRIX["overview"], picture())


def test_a_poster_that_fails_costs_only_the_poster(tmdb: Server, tmp_path: Path) -> None:
    tmdb.answers[POSTER] = send(picture()[:200])
    (found,) = look_up([Film(id="tt0133093")], tmp_path)
    assert (found.plot, found.poster) == (MATRIX["overview"], None)
    assert found.warnings == (
        "the plot was looked up at TMDB",
        "the poster could not be looked up at TMDB: the response is not an image that can be read",
    )


def test_closing_ends_the_thread_and_the_file(tmdb: Server, tmp_path: Path) -> None:
    with opened(tmp_path) as service:
        service([Film(id="tt0133093")])
        assert looking_up() and open_files(tmp_path)
    assert not looking_up() and not open_files(tmp_path)


def test_a_server_that_stays_away_stops_the_run(tmdb: Server, tmp_path: Path) -> None:
    tmdb.close()
    with pytest.raises(MmgcsError, match=r"TMDB does not answer \(.*\); run the same command again later"):
        look_up([Film(id=f"tt00000{n:02}") for n in range(20)], tmp_path, retries=0)


def test_a_wrong_key_is_told_and_nothing_more_is_asked(tmdb: Server, tmp_path: Path) -> None:
    tmdb.answers[FIND] = send(b"", 401)
    with pytest.raises(UsageError, match=r"TMDB refuses the key \(HTTP 401\); check TMDB_API_KEY"):
        look_up([Film(id="tt0133093")], tmp_path)
    assert tmdb.seen[FIND] == 1


def test_wrong_calls_are_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMDB_API_KEY", raising=False)
    with pytest.raises(UsageError, match="needs your key; set TMDB_API_KEY"):
        enricher("tmdb")
    with pytest.raises(UsageError, match="no look-up service 'imdb'; known: tmdb"):
        enricher("imdb")
    monkeypatch.setenv("TMDB_API_KEY", KEY)
    (tmp_path / "broken").write_bytes(b"no database at all" * 100)
    with pytest.raises(MmgcsError, match=r"the cache .*broken cannot be used .*; remove it or name another"):
        enricher("tmdb", cache=tmp_path / "broken")


@pytest.mark.usefixtures("tmdb")
def test_a_table_is_tagged_from_what_was_looked_up(tiny_bundle: Path, tmp_path: Path) -> None:
    films, out = tmp_path / "films.csv", tmp_path / "out.jsonl"
    films.write_text("imdb_id,plot\ntt0133093,\ntt0000404,\ntt0000001,A ghost haunts the house\n", encoding="utf-8")
    call = ["tag", str(films), "--out", str(out), "--model", str(tiny_bundle), "--enrich", "tmdb", "--quiet"]
    assert main([*call, "--enrich-cache", str(tmp_path / "cache.sqlite")]) == 3
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert rows[0]["inputs"] == ["plot", "poster"]
    assert rows[0]["plot"] == MATRIX["overview"]
    assert "there is nothing to predict from" in rows[1]["error"]
    assert rows[2]["warnings"] == []
    assert not looking_up() and not open_files(tmp_path)
