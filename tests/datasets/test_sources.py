"""Published data sets, each in its own format, are read into the same columns."""

from __future__ import annotations

import gzip
import json

import polars as pl
import pytest

from mmgcs.datasets import RAW_SCHEMA, detect_source, read_raw_films, read_source, write_films
from mmgcs.datasets.split import leak_groups
from mmgcs.errors import InputError, UsageError
from mmgcs.genres import parse_genres
from mmgcs.tables import read_films as tag_reads

PLOT = "A lighthouse keeper finds a message in a bottle."
TMDB = (
    "id,title,vote_average,vote_count,status,release_date,revenue,runtime,adult,backdrop_path,budget,homepage,imdb_id,"
    "original_language,original_title,overview,popularity,poster_path,tagline,genres,production_companies,"
    "production_countries,spoken_languages,keywords\n"
    f'11,The Bottle,7.1,3,Released,1999-05-01,0,90,False,,0,,tt1,en,The Bottle,"{PLOT}",1,/p.jpg,,'
    '"Drama, Science Fiction",,,,\n'
    '12,Two Lines,7.1,3,Released,,0,90,False,,0,,tt2,en,Two Lines,"First line.\nSecond ""line"".",1,,,Comedy,,,,\n'
    "13,Short row,7\n"
)


def read(path):
    name, raw = read_source(path)
    assert raw.frame.schema == pl.Schema(RAW_SCHEMA)
    return name, raw


def genres(raw):
    return [parse_genres(value) for value in raw.frame["genres"]]


def test_the_tmdb_dump(tmp_path):
    path = tmp_path / "TMDB_movie_dataset_v11.csv"
    path.write_text(TMDB, encoding="utf-8")
    name, raw = read(path)
    assert name == "tmdb"
    assert genres(raw) == [("Drama", "Science Fiction"), ("Comedy",)]
    assert len(raw.problems) == 1
    assert "line 5 has 3 fields where the header has 24" in raw.problems[0]
    first, second = raw.frame.rows(named=True)
    assert (first["id"], first["year"], first["plot"], first["poster_path"]) == ("11", 1999, PLOT, "/p.jpg")
    assert second["plot"] == 'First line.\nSecond "line".'
    assert second["year"] is None


def test_tmdb_5000(tmp_path):
    path = tmp_path / "tmdb_5000_movies.csv"
    listed = json.dumps([{"id": 28, "name": "Action"}, {"id": 878, "name": "Science Fiction"}]).replace('"', '""')
    path.write_text(f'budget,genres,id,overview,release_date,title\n1,"{listed}",19,{PLOT},2009-12-10,Blue\n')
    name, raw = read(path)
    assert name == "tmdb"
    assert genres(raw) == [("Action", "Science Fiction")]


def test_movielens_with_its_broken_rows(tmp_path):
    path = tmp_path / "movies_metadata.csv"
    path.write_text(
        "adult,belongs_to_collection,genres,id,imdb_id,overview,poster_path,release_date,title\n"
        "False,\"{'id': 10194, 'name': 'Toy Tales Collection', 'poster_path': '/7.jpg'}\","
        f"\"[{{'id': 16, 'name': 'Animation'}}, {{'id': 35, 'name': 'Comedy'}}]\",862,tt1,{PLOT},,1995-10-30,Toys\n"
        f"False,\"{{'id': 1, 'name': \"\"Hero's Tales\"\", 'x': None}}\",[],863,tt2,{PLOT},,1995-10-30,Hero\n"
        " - Written by Ørnås,0.065736,/ff9qCepilowshEtG2GYWwzt2bs4.jpg,1997-08-20,0,x,1,y\n"
    )
    name, raw = read(path)
    assert name == "movielens"
    assert raw.frame["collection"].to_list() == ["Toy Tales Collection", "Hero's Tales"]
    assert genres(raw) == [("Animation", "Comedy"), ()]
    assert len(raw.problems) == 1
    assert "line 4 has 8 fields where the header has 9" in raw.problems[0]


def test_the_originals_own_table(tmp_path):
    path = tmp_path / "strictly_balanced_top10.csv"
    path.write_text(
        "title,overview,genres,poster_url,Drama,Horror,Comedy\n"
        f"\"One\",{PLOT},\"['Drama', 'Horror']\",https://example.org/1.jpg,1,1,0\n"
        f"Two,{PLOT},,,0,0,1\n"
    )
    name, raw = read(path)
    assert name == "original"
    assert genres(raw) == [("Drama", "Horror"), ("Comedy",)]
    assert raw.frame["id"].to_list() == ["1", "2"]
    assert raw.frame["poster_url"].to_list() == ["https://example.org/1.jpg", None]


def mmimdb(root):
    films = root / "dataset"
    films.mkdir(parents=True)
    plots = {"0000001": ["Short.", PLOT], "0000002": PLOT, "0000003": []}
    for film, plot in plots.items():
        (films / f"{film}.json").write_text(json.dumps({"plot": plot, "genres": ["Drama", "Sci-Fi"], "year": 1950}))
    (films / "0000001.jpeg").write_bytes(b"x")
    (films / "0000004.json").write_text('{"plot": ')
    (root / "split.json").write_text(json.dumps({"train": ["0000001"], "dev": ["0000002"], "test": ["0000003"]}))
    return root


def test_mm_imdb_with_its_split(tmp_path):
    name, raw = read(mmimdb(tmp_path / "mmimdb"))
    assert name == "mmimdb"
    assert raw.frame["plot"].to_list() == [PLOT, PLOT, None]
    assert raw.frame["poster"].to_list() == ["0000001.jpeg", None, None]
    assert raw.frame["split"].to_list() == ["train", "valid", "test"]
    assert genres(raw)[0] == ("Drama", "Science Fiction")
    assert raw.problems == ("0000004.json",)


@pytest.mark.parametrize("content", ["{", "[]", '{"extra": [1]}', '{"train": [1], "test": [1]}'])
def test_a_split_file_that_cannot_be_right_is_refused(tmp_path, content):
    (mmimdb(tmp_path) / "split.json").write_text(content)
    with pytest.raises(InputError, match=r"is not MM-IMDb's split\.json"):
        read_source(tmp_path)


CSV = b"ID , Title,Overview,Plot,Genres,IMDB_ID,Split\n7,Night,x,A ghost.,Drama|Music,tt1,train\n,B,x,,,tt2,\n"
TABLES = {
    "films.csv": CSV,
    "films.CSV": CSV,
    "films.csv.gz": gzip.compress(CSV),
    "films.tsv": CSV.replace(b",", b"\t"),
    "films.tab.gz": gzip.compress(CSV.replace(b",", b"\t")),
    "films16.csv": CSV.decode().encode("utf-16"),
    "films16.tsv.gz": gzip.compress(CSV.replace(b",", b"\t").decode().encode("utf-16")),
    "films.jsonl.gz": gzip.compress(
        b'{"ID": "7", "Title": "Night", "Plot": "A ghost.", "Genres": ["Drama", "Music"], "Split": "train"}\n'
        b'{"Title": "B", "imdb_id": "tt2"}\n'
    ),
    "films16.jsonl": '{"Id": "7", "PLOT": "A ghost. It haunts.", "genres": ["Drama", "Music"]}\n'.encode("utf-16"),
}


@pytest.mark.parametrize("name", TABLES)
def test_what_tag_reads_is_read_alike_before_training(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(TABLES[name])
    assert detect_source(path) == "films"
    ours = [
        (film.id or None, film.title, film.plot, film.genres or (), film.split)
        for films in tag_reads(path)
        for film in films
    ]
    frame = read_raw_films(path).frame.select("id", "title", "plot", "genres", "split")
    assert [(*row[:3], parse_genres(row[3]), row[4]) for row in frame.rows()] == ours
    assert ours[0][3] == ("Drama", "Music")


@pytest.mark.parametrize(
    "suffix", [".csv", ".jsonl", ".parquet", ".pq", ".tsv", ".tab", ".csv.gz", ".tsv.gz", ".jsonl.gz"]
)
def test_a_table_of_films_is_read_as_it_was_written(tmp_path, suffix):
    frame = pl.DataFrame(
        {"id": ["007", "b"], "title": ["A, \"B\"", None], "year": [1950, None], "plot": [PLOT, "Line\nline"],
         "genres": ["Drama|Music", None], "poster": [None, "b.jpg"], "split": ["train", None]}
    )  # fmt: skip
    write_films(frame, tmp_path / f"films{suffix}")
    again = read_raw_films(tmp_path / f"films{suffix}").frame
    assert again.select(frame.columns).rows() == frame.rows()
    assert [file.name for file in tmp_path.iterdir()] == [f"films{suffix}"]


def test_rows_that_a_stray_quote_would_merge_are_read_apart(tmp_path):
    path = tmp_path / "films.csv"
    path.write_text(f'id,plot,genres\n1,{PLOT},Drama\n2,"One,Drama\n3,Two,Comedy\n4,Three",Music\n5,"a\nb",War\n')
    assert read_raw_films(path).frame["id"].to_list() == ["1", "2", "3", "4", "5"]


def test_addresses_of_posters_are_found_in_the_column_poster_too(tmp_path):
    path = tmp_path / "films.csv"
    path.write_text("id,plot,genres,poster\n1,a,War,https://m.example.org/a.jpg\n2,b,War,/b.jpg\n3,c,War,c.jpg\n")
    frame = read_raw_films(path).frame
    assert frame["poster_url"].to_list() == ["https://m.example.org/a.jpg", None, None]
    assert frame["poster_path"].to_list() == [None, "/b.jpg", None]
    assert frame["poster"].to_list() == [None, None, "c.jpg"]


@pytest.mark.parametrize("kind", ["bytes", "of Hugging Face"])
def test_pictures_in_a_table_are_kept_or_left_out_but_never_turned_into_text(tmp_path, kind):
    given = [b"\x89PNG" + bytes([number]) for number in (0, 0, 1)] + [None]
    held = given if kind == "bytes" else [value and {"bytes": value, "path": "a.png"} for value in given]
    frame = pl.DataFrame({"id": list("abcd"), "plot": [PLOT] * 4, "poster": held, "cast": [["Ann", "Bo"]] * 4})
    frame.write_parquet(tmp_path / "films.parquet")
    assert read_raw_films(tmp_path / "films.parquet").frame["poster"].to_list() == [None] * 4
    whole = read_raw_films(tmp_path / "films.parquet", others=True).frame
    assert whole.select("id", "plot", "poster", "cast").equals(frame)
    posters = leak_groups(whole).filter(pl.col("reason") == "poster")
    assert posters.select("left", "right").rows() == [(0, 1)]
    write_films(whole, tmp_path / "films.jsonl")
    assert "(5 bytes)" in (tmp_path / "films.jsonl").read_text(encoding="utf-8")


def test_a_folder_of_tables_is_one_data_set(tmp_path):
    for country in ("us", "fr"):
        folder = tmp_path / f"country={country}"
        folder.mkdir()
        pl.DataFrame({"id": [country], "plot": [PLOT], "genres": ["Drama"]}).write_parquet(folder / "films.parquet")
    assert detect_source(tmp_path) == "films"
    assert read_raw_films(tmp_path).frame["id"].to_list() == ["fr", "us"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("films.csv", b"", "is empty"),
        ("films.csv", b"a,b\n1,2\n", "not a known data set"),
        ("films.xls", b"PK", r"no table format '\.xls'; known: \.csv"),
        ("films.xlsx", b"PK", "cannot be read as an Excel workbook"),
        ("films.parquet", b"not parquet at all", "cannot be read"),
        ("films.jsonl", b"{broken\n", "is not JSON lines"),
    ],
)
def test_a_file_that_is_no_data_set_ends_in_one_clear_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        detect_source(path)
    assert "\n" not in str(caught.value)


def test_a_table_with_a_split_is_nobodys_published_data_set(tmp_path):
    path = tmp_path / "films.csv"
    path.write_text("id,overview,genres,vote_average,split\ntt1,a ghost,Horror,5,test\n")
    name, raw = read(path)
    assert (name, raw.frame["split"].to_list()) == ("films", ["test"])


def test_language_and_cohort_are_kept_for_the_evaluation(tmp_path):
    path = tmp_path / "films.csv"
    path.write_text(f"id,plot,genres,language,cohort,studio\n1,{PLOT},Drama,pt,new,Ufa\n", encoding="utf-8")
    (film,) = read_raw_films(path).frame.rows(named=True)
    assert (film["language"], film["cohort"], "studio" in film) == ("pt", "new", False)
