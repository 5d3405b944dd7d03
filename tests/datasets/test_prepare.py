"""`mmgcs data prepare`, `inspect` and `split`, run as commands."""

from __future__ import annotations

import json
import re

import numpy as np
import polars as pl
import pytest
from http_server import picture, send

from mmgcs.cli import main
from mmgcs.datasets import prepare, read_raw_films, write_films
from mmgcs.datasets.inspect import page, summarise

WORDS = "amber boat cellar dune ember field ghost harbour island jewel kettle ladder mirror needle orchard".split()
GENRES = ("Drama", "Comedy", "Thriller", "Horror", "Action", "Crime", "Music", "Romance", "Animation", "Documentary")


@pytest.fixture
def dump(tmp_path):
    """A file of the shape of TMDB's dump: 600 films of twelve genres, and some rows that are none."""
    rng = np.random.default_rng(0)
    plots = [" ".join(row) + "." for row in rng.choice(WORDS, (600, 25))]
    names = [*GENRES, "Western", "War"]
    genres = [", ".join(rng.choice(names, rng.integers(1, 4), replace=False)) for _ in range(600)]
    frame = pl.DataFrame(
        {
            "id": range(600),
            "title": [" ".join(row) for row in rng.choice(WORDS, (600, 4))],
            "vote_average": 5.0,
            "release_date": [f"{year}-01-01" for year in rng.integers(1950, 2020, 600)],
            "overview": [None, None, plots[2], *plots[3:10], plots[2], *plots[11:]],
            "poster_path": "/a.jpg",
            "genres": [*genres[:20], None, *genres[21:]],
        }
    ).with_columns(poster_path=pl.format("/{}.jpg", "id"))
    path = tmp_path / "dump.csv"
    frame.write_csv(path)
    return path


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_preparing_writes_the_films_and_says_what_became_of_the_others(dump, tmp_path, capsys):
    out = tmp_path / "films.csv"
    status, text, _ = run(capsys, "data", "prepare", dump, "--out", out, "--split", "80/10/10")
    assert status == 0
    assert "2 dropped: no plot" in text
    films = read_raw_films(out).frame
    report = json.loads((tmp_path / "films.report.json").read_text())
    assert report["kept"] == films.height == report["read"] - sum(report["dropped"].values())
    assert report["dropped"]["duplicate plot"] == 1
    assert set(films["split"]) == {"train", "valid", "test"}
    assert set("|".join(films["genres"]).split("|")) == {*GENRES, "Western", "War"}
    assert pl.read_csv(out).columns[:7] == ["id", "title", "year", "plot", "genres", "poster", "poster_path"]


def test_columns_of_any_name_are_read(tmp_path, capsys):
    table, out = tmp_path / "own.csv", tmp_path / "films.csv"
    rows = ["key;blurb;kind", *(f"{key};A boat leaves harbour {key} at dusk.;Drama, War" for key in range(4))]
    table.write_text("\n".join(rows), encoding="utf-8")
    names = ["--columns", "id=key", "plot=blurb", "genres=kind"]
    status, _, errors = run(capsys, "data", "prepare", table, "--out", out, *names)
    assert status == 0, errors
    prepared = read_raw_films(out).frame
    assert prepared["plot"][3] == "A boat leaves harbour 3 at dusk."
    assert prepared["genres"].to_list() == ["Drama|War"] * 4
    status, printed, errors = run(capsys, "data", "inspect", table, "--json", *names)
    assert status == 0, errors
    assert json.loads(printed)["genres"] == {"Drama": 4, "War": 4}
    status, _, errors = run(capsys, "data", "inspect", table, "--json", "--from", "tmdb", *names)
    assert status == 2
    assert "--columns is for tables of your own" in errors


def test_the_same_seed_gives_the_same_bytes(dump, tmp_path):
    for name in ("a.csv", "b.csv"):
        prepare(dump, tmp_path / name, split="80/10/10", balance="top10", seed=3)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize(
    ("genres", "expected"),
    [("western,Sci-Fi", {"Western"}), ("ten", set(GENRES)), ("data", {*GENRES, "Western", "War"})],
)
def test_genres_can_be_chosen(dump, tmp_path, capsys, genres, expected):
    status, text, _ = run(capsys, "data", "prepare", dump, "--out", tmp_path / "f.jsonl", "--genres", genres, "--json")
    assert status == 0
    report = json.loads(text)
    assert {name for name, count in report["genres"].items() if count} == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--genres", "Kaiju"], "no film of .* is left .*none of the wanted genres.*keep them with --genres data"),
        (["--genres", "tenn"], "did you mean 'ten'"),
        (["--genres", ","], "--genres names no genre"),
        (["--per-genre", "5"], "--per-genre needs --balance top10"),
        (["--balance", "top10", "--per-genre", "5000"], "--per-genre 5,000 is more than the films allow"),
        (["--balance", "all"], "--balance all is unknown; known: none, top10"),
        (["--split", "80/20"], "write it like 80/10/10"),
        (["--from", "netflix"], "no data source 'netflix'; known: films, mmimdb"),
        (["--min-words", "0"], "--min-words': must be at least 1"),
        (["--min-words", "5000"], "no film of .* is left"),
    ],
)
def test_a_wrong_call_ends_in_one_line_and_status_2(dump, tmp_path, capsys, arguments, message):
    status, out, err = run(capsys, "data", "prepare", dump, "--out", tmp_path / "f.csv", *arguments)
    assert (status, out) == (2, "")
    assert re.search(message, err)
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "f.csv").exists()


def test_one_genre_or_a_genre_with_one_film_is_warned_of(tmp_path):
    path = tmp_path / "films.csv"
    path.write_text("id,plot,genres\n" + "".join(f"{n},Plot number {n} it is,Drama\n" for n in range(9)))
    warnings = prepare(path, tmp_path / "a.csv", genres=("data",), split="80/10/10")["warnings"]
    assert "nothing to learn" in warnings[0]
    path.write_text(path.read_text() + "x,Another plot for once,Western\n")
    warnings = prepare(path, tmp_path / "b.csv", genres=("data",))["warnings"]
    assert "Western has one film" in warnings[0]
    assert prepare(path, tmp_path / "c.csv", genres=("data",), min_films=2)["genres"] == {"Drama": 9}


def test_own_genres_that_most_films_need_are_not_dropped_silently(tmp_path, capsys):
    path = tmp_path / "films.csv"
    genres = ["Kaiju", "Giallo", "Kaiju|Drama", "Giallo"]
    path.write_text("id,plot,genres\n" + "".join(f"{n},Plot number {n} it is,{genres[n % 4]}\n" for n in range(60)))
    status, text, _ = run(capsys, "data", "prepare", path, "--out", tmp_path / "a.csv")
    assert status == 0
    assert "45 dropped: none of the wanted genres" in text
    assert "genres left out: Giallo 30, Kaiju 30; --genres data keeps them" in text
    assert "warning: 45 films were dropped because none of their genres is in the chosen set, more than the 15" in text
    status, text, _ = run(capsys, "data", "prepare", path, "--out", tmp_path / "b.csv", "--genres", "data", "--json")
    report = json.loads(text)
    assert (report["kept"], report["genres"]) == (60, {"Giallo": 30, "Kaiju": 30, "Drama": 15})


def test_numbered_titles_are_split_and_films_that_all_belong_together_are_an_error(tmp_path, capsys):
    path, out = tmp_path / "films.csv", tmp_path / "split.csv"
    rng = np.random.default_rng(0)
    plots = [" ".join(row) for row in rng.choice(WORDS, (60, 25))]

    def split(count, title):
        rows = [f"{n},{title},{plots[n]},{GENRES[n % 2]}\n".replace("#", str(n)) for n in range(count)]
        path.write_text("id,title,plot,genres\n" + "".join(rows))
        return run(capsys, "data", "split", path, "--out", out, "--overwrite")

    status, text, _ = split(60, "Film #")
    assert (status, text.strip()) == (0, f"{out}: train 48, valid 6, test 6")
    before = out.read_bytes()
    status, _, err = split(18, "Rocky #")
    assert status == 2
    assert "nothing is left for the splits valid and test: 18 of 18 films belong together (series by title)" in err
    status, _, err = split(2, "Alien #")
    assert status == 2 and "belong together" in err
    path.write_text("id,plot,genres\n1,a ghost,Horror\n2,love in Paris,Romance\n")
    status, _, err = run(capsys, "data", "split", path, "--out", out, "--overwrite")
    assert status == 2 and "2 films are too few for the split" in err
    assert out.read_bytes() == before


def test_a_split_is_made_and_proved(dump, tmp_path, capsys):
    out = tmp_path / "films.csv"
    prepare(dump, out)
    assert run(capsys, "data", "split", "--check", out)[0] == 2  # no split yet
    status, text, _ = run(capsys, "data", "split", out, "--out", out, "--overwrite", "--split", "70/15/15")
    assert status == 0
    assert re.search(r"train \d+, valid \d+, test \d+", text)
    status, text, _ = run(capsys, "data", "split", "--check", out)
    assert status == 0
    assert "no leaks: no series, poster or near-duplicate plot spans two splits" in text


def test_a_leak_is_shown_and_ends_in_status_1(dump, tmp_path, capsys):
    out = tmp_path / "films.csv"
    prepare(dump, out, split="80/10/10")
    films = pl.read_csv(out)
    copy = films.filter(pl.col("split") == "train").head(1).with_columns(id=pl.lit(99_999), split=pl.lit("test"))
    pl.concat([films, copy.cast(dict(films.schema))]).write_csv(out)
    status, text, err = run(capsys, "data", "split", "--check", out)
    assert status == 1
    assert "near-duplicate plot" in text
    assert "leaks" in err
    status, text, _ = run(capsys, "data", "split", "--check", out, "--json")
    assert status == 1
    assert {leak["reason"] for leak in json.loads(text)["leaks"]} >= {"near-duplicate plot", "series by title"}


def test_the_page_has_every_chart_and_needs_nothing_else(dump, tmp_path, capsys):
    page = tmp_path / "page.html"
    status, text, _ = run(capsys, "data", "inspect", dump, "--out", page, "--json")
    assert status == 0
    summary = json.loads(text)
    assert (summary["films"], summary["missing"]["plot"], summary["duplicates"]["plot"]) == (600, 2, 1)
    html = page.read_text(encoding="utf-8")
    assert html.count("<figcaption") == html.count("<figure") == 7
    assert not re.search(r'(?:src|href)="(?!#|data:)|@import', html)
    films = next(iter(summary["genres"].values()))
    assert f'<td>{films:,}</td><td class="bar"><div style="width: 100.0%">' in html


def test_charts_can_be_drawn_of_anything(tmp_path):
    path = tmp_path / "films.csv"
    for content in ("1,A plot,Drama,1999\n", "1,,,\n", "1,A plot,<script>alert(1)</script>,\n"):
        path.write_text("id,plot,genres,year\n" + content)
        summary = summarise(read_raw_films(path).frame)
        assert "<script" not in page(summary, "<script>")


def test_posters_are_fetched_by_the_command(dump, tmp_path, capsys, server):
    server.answers = {"/w/2.jpg": send(picture()), "/w/3.jpg": send(b"<html>")}
    films, out = tmp_path / "films.csv", tmp_path / "with.csv"
    prepare(dump, films)
    pl.read_csv(films).head(2).write_csv(films)
    common = ("data", "posters", films, "--out", tmp_path / "p", "--base-url", f"{server.url}/w")
    assert run(capsys, *common)[0] == 3  # private addresses are refused
    status, text, err = run(capsys, *common, "--films-out", out, "--allow-private", "--retry-failed", "--json")
    assert status == 3
    assert json.loads(text)["reasons"] == {"the response is a web page, not an image": 1}
    assert "failed.jsonl" in err
    assert read_raw_films(out).frame["poster"].to_list() == ["2.jpg", None]


def test_word_vectors_are_taken_from_a_file_by_the_command(tmp_path, capsys):
    path = tmp_path / "mine.txt"
    path.write_text("film " + " ".join(["0.5"] * 50) + "\n")
    status, text, _ = run(capsys, "data", "glove", "--from", path, "--dim", 50, "--out", tmp_path / "g", "--json")
    assert status == 0
    assert json.loads(text)["words"] == 1
    status, _, err = run(capsys, "data", "glove", "--from", path, "--dim", 51)
    assert status == 2
    assert "--dim 51 does not exist" in err


@pytest.mark.parametrize(
    ("command", "written"),
    [
        (["prepare", "films.csv", "--out", "films.csv"], "films.csv exists; give --overwrite to replace it"),
        (["prepare", "films.csv", "--out", "new.csv"], "new.report.json exists; give --overwrite to replace it"),
        (["inspect", "films.csv"], "films.csv.html exists; give --overwrite to replace it"),
        (
            ["inspect", "films.csv", "--out", "films.csv", "--overwrite"],
            "--out films.csv is not an HTML file; give it a name",
        ),
        (["split", "films.csv", "--out", "films.csv"], "films.csv exists; give --overwrite to replace it"),
        (["posters", "films.csv", "--out", "p", "--films-out", "films.csv"], "replace it, or another --films-out"),
    ],
)
def test_no_file_is_written_over_unasked(command, written, dump, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dump.rename("films.csv")
    for name in ("new.report.json", "films.csv.html"):
        (tmp_path / name).write_text("mine")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    status, _, err = run(capsys, "data", *command)
    assert status == 2
    assert written in err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    if command[0] in ("prepare", "inspect") and "--overwrite" not in command:
        assert run(capsys, "data", *command, "--overwrite")[0] == 0


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_posters_bring_their_own_earlier_table_up_to_date_and_no_other(kind, tmp_path, capsys, server):
    server.answers = {"/1.jpg": send(picture())}
    films, out = tmp_path / "films.csv", tmp_path / f"with.{kind}"
    rows = [f'{name},"A, ""plot""",1999,Drama,,{server.url}/{name}.jpg\n' for name in "12"]
    films.write_text("id,plot,year,genres,split,poster_url,rating\n" + "".join(row[:-1] + ",5\n" for row in rows))
    common = ("data", "posters", films, "--out", tmp_path / "p", "--films-out", out, "--allow-private")
    assert run(capsys, *common)[0] == 3
    server.answers["/2.jpg"] = send(picture())
    assert run(capsys, *common, "--retry-failed")[0] == 0
    assert read_raw_films(out).frame["poster"].to_list() == ["1.jpg", "2.jpg"]
    mine = read_raw_films(out).frame.with_columns(poster=pl.lit("mine.jpg"))
    for other in (
        mine,
        mine.drop("poster"),
        mine.head(1),
        read_raw_films(out, others=True).frame.with_columns(rating=pl.lit("9")),
    ):
        write_films(other, out)
        before = out.read_bytes()
        status, _, err = run(capsys, *common)
        assert (status, out.read_bytes()) == (2, before)
        assert "give --overwrite to replace it, or another --films-out" in err
    assert run(capsys, *common, "--overwrite")[0] == 0


def test_a_table_without_a_column_of_genres_is_not_split(tmp_path, capsys):
    films = tmp_path / "films.csv"
    films.write_text("id,plot,category\n1,a ghost,Horror\n")
    status, _, err = run(capsys, "data", "split", films, "--out", tmp_path / "split.csv")
    assert status == 2
    assert "films.csv has no column genres, genre or listed_in; its columns are id, plot, category" in err


def test_a_split_written_over_its_table_loses_nothing(tmp_path, capsys):
    films = tmp_path / "films.csv"
    rows = [f"{n},Film {n},1999-05-0{n % 9 + 1},plot {n} of {n * 7},Drama|War,{n}.jpg,Director {n}" for n in range(40)]
    films.write_text("\n".join(["id,title,release_date,overview,genres,poster,director", *rows]) + "\n")
    assert run(capsys, "data", "split", films, "--out", films, "--overwrite")[0] == 0
    table = pl.read_csv(films)
    assert set(table["split"]) == {"train", "valid", "test"}
    assert table["director"].to_list() == [f"Director {number}" for number in range(40)]
    assert table["release_date"][1] == "1999-05-02" and table["poster"][1] == "1.jpg"
    with films.open("a") as handle:
        handle.write("41,too,many,fields,to,be,a,row,of,this,table,,,,\n")
    before = films.read_bytes()
    status, _, err = run(capsys, "data", "split", films, "--out", films, "--overwrite")
    assert (status, films.read_bytes()) == (2, before)
    assert "1 of its rows cannot be read" in err and "would be lost" in err


def test_columns_of_any_type_are_kept(tmp_path, capsys):
    (tmp_path / "films").mkdir()
    rows = {"id": [str(n) for n in range(40)], "plot": [f"plot {n} of {n * 7}" for n in range(40)]}
    films = pl.DataFrame({**rows, "genres": [["Drama", "War"]] * 40, "cast": [["Ann", "Bo"]] * 40, "score": [0.5] * 40})
    films.head(20).write_parquet(tmp_path / "films" / "a.parquet")
    films.tail(20).drop("score").write_parquet(tmp_path / "films" / "b.parquet")  # a column that only some files have
    for out in ("split.csv", "split.parquet"):
        assert run(capsys, "data", "split", tmp_path / "films", "--out", tmp_path / out)[0] == 0
    table = pl.read_parquet(tmp_path / "split.parquet")
    assert table["cast"].to_list() == [["Ann", "Bo"]] * 40
    assert table["score"].to_list() == [0.5] * 20 + [None] * 20
    assert pl.read_csv(tmp_path / "split.csv")["cast"][0] == "Ann|Bo"
