"""Tables of films are read in every shape they come in, and no row is lost."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from backports import zstd
from hypothesis import example, given
from hypothesis import strategies as st

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.film import Film
from mmgcs.tables import FilmTable, read_films, read_frame, spooled_stdin, write_table


def films_of(path: Path, **options: object) -> list[Film]:
    return [film for chunk in read_films(path, **options) for film in chunk]  # type: ignore[arg-type]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def problems(films: Sequence[Film]) -> list[bool]:
    return [film.problem is not None for film in films]


ROWS = [
    {"id": "a", "title": "One", "year": 1999, "plot": "A thief, returns", "genres": "Crime|Drama", "note": "x"},
    {"id": "b", "title": None, "year": None, "plot": 'He said "no"\nand left', "genres": None, "note": "y"},
]


def as_table(path: Path) -> Path:
    name = path.name
    if name.endswith(".parquet"):
        pl.DataFrame(ROWS).write_parquet(path)
        return path
    text = io.StringIO()
    if ".jsonl" in name or ".ndjson" in name:
        text.write("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        writer = csv.DictWriter(text, list(ROWS[0]), delimiter="\t" if ".tsv" in name else ",")
        writer.writeheader()
        writer.writerows(ROWS)
    data = text.getvalue().encode()
    return write(path, gzip.compress(data) if name.endswith(".gz") else data)


@pytest.mark.parametrize(
    "name", ["f.csv", "f.CSV", "f.tsv", "f.jsonl", "f.ndjson", "f.parquet", "f.csv.gz", "f.jsonl.gz", "my.films.csv"]
)
def test_every_format_gives_the_same_films(tmp_path: Path, name: str) -> None:
    films = films_of(as_table(tmp_path / name))
    assert [film.record["note"] for film in films] == ["x", "y"]
    assert [replace(film, record={}) for film in films] == [
        Film("a", "One", 1999, "A thief, returns", genres=("Crime", "Drama")),
        Film("b", None, None, 'He said "no"\nand left'),
    ]


CELL = "A ghost, they say; it haunts"


def delimited(delimiter: str) -> str:
    return f"id{delimiter}title{delimiter}plot\n" + "".join(f'{n}{delimiter}t{delimiter}"{CELL}"\n' for n in range(9))


@pytest.mark.parametrize("name", ["f.csv", "f.tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_whatever_the_file_is_called(tmp_path: Path, delimiter: str, name: str) -> None:
    films = films_of(write(tmp_path / name, delimited(delimiter)))
    assert [(film.id, film.plot) for film in films] == [(str(n), CELL) for n in range(9)]


def test_a_delimiter_that_is_given_is_taken(tmp_path: Path) -> None:
    assert films_of(write(tmp_path / "f.csv", delimited(";")), delimiter=";")[0].plot == CELL
    assert films_of(write(tmp_path / "f.csv", delimited("\t")), delimiter="\\t")[0].plot == CELL
    with pytest.raises(UsageError, match="is not one character"):
        films_of(write(tmp_path / "f.csv", delimited(";")), delimiter="::")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("f.csv", "sep=;\nid;plot\n1;A ghost, they say\n"),
        ("f.csv", 'id, title, plot\n1, One, "A ghost, they say"\n2, Two, "A cat, they say"\n'),
        ("f.csv", 'id,plot\n1,"A ghost, they say",\n'),
        ("f.csv", 'id,plot,\n1,"A ghost, they say",\n'),
        ("f.txt", "plot\nA ghost, they say\n"),
        ("f.csv", 'id,plot\r1,"A ghost, they say"\r'),
        ("f.csv", '\n\nid,plot\n1,"A ghost, they say"\n'),
        ("f.csv", 'IMDb_ID,Overview\n1,"A ghost, they say"\n'),
        ("f.jsonl", '{"_id": {"$oid": "1"}, "plot": "A ghost, they say"}\n'),
    ],
)
def test_usual_oddities_of_csv_are_read(tmp_path: Path, name: str, content: str) -> None:
    film = films_of(write(tmp_path / name, content))[0]
    assert (film.id, film.plot, film.problem, film.warnings) == ("1", "A ghost, they say", None, ())


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ("title,plot,year", 'T{n},"A ghost {n}.\nIt haunts, the house.",{year}\n'),
        ("id,title,plot,year", '{n},T{n},"A ghost {n}.\nIt haunts, the house, and me.",{year}\n'),
        ("year,title,plot", '{year},T{n},"A ghost {n}.\nIn 1920, he, goes.\n1921, it, haunts."\n'),
        ("plot,year", '"A ghost {n}, they say.\nIt haunts the house",{year}\n'),
    ],
)
def test_the_commas_of_plots_with_several_lines_do_not_break_them(tmp_path: Path, columns: str, row: str) -> None:
    rows = [row.format(n=number, year=1950 + number) for number in range(30)]
    films = films_of(write(tmp_path / "f.csv", f"{columns}\n{''.join(rows)}"))
    assert problems(films) == [False] * 30
    assert [film.year for film in films] == list(range(1950, 1980))


def test_columns_without_a_name_keep_their_values(tmp_path: Path) -> None:
    (film,) = films_of(write(tmp_path / "f.csv", "id,plot,,\n1,A ghost.,x,y\n"))
    assert film.record == {"id": "1", "plot": "A ghost.", "": "x", "column_4": "y"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_encodings_and_line_ends_are_recognised(tmp_path: Path, encoding: str) -> None:
    text = "id\tplot\r\n1\tDie Bäcker 🎬\r\n\r\n2\tA café\r\n\x1a"
    films = films_of(write(tmp_path / "f.tsv", text.encode(encoding)))
    assert [(film.id, film.plot) for film in films] == [("1", "Die Bäcker 🎬"), ("2", "A café")]


def test_tsv_without_quoting_keeps_its_quotation_marks(tmp_path: Path) -> None:
    rows = ['1\t"Big Jim"\t"Big Jim" runs a bar.', '2\tGun\tA 5" gun.', '3\t"Half open\tA killer.', "4\tB\tA baker."]
    films = films_of(write(tmp_path / "f.tsv", "id\ttitle\tplot\n" + "\n".join(rows) + "\n"))
    assert [film.title for film in films] == ['"Big Jim"', "Gun", '"Half open', "B"]
    assert films[0].plot == '"Big Jim" runs a bar.'
    assert problems(films) == [False] * 4


def test_backslashes_of_mysql_are_read(tmp_path: Path) -> None:
    rows = [r'"1","Camp","He calls himself \"The Ferryman\", one by one"', r'"2","Null",\N', r'"3","Slash","Ends \\"']
    films = films_of(write(tmp_path / "f.csv", "id,title,plot\n" + "\n".join(rows) + "\n"))
    assert [film.plot for film in films] == ['He calls himself "The Ferryman", one by one', None, "Ends \\"]


JSON_FILMS = [{"id": n, "plot": f'A plot, [with] {{marks}} and \\ and "quotes" {n}'} for n in range(3)]


@pytest.mark.parametrize("indent", [None, 1, 4])
@pytest.mark.parametrize("name", ["f.json", "f.jsonl", "f.json.gz"])
def test_a_json_list_is_a_table(tmp_path: Path, name: str, indent: int | None) -> None:
    data = json.dumps(JSON_FILMS, indent=indent).encode()
    films = films_of(write(tmp_path / name, gzip.compress(data) if name.endswith(".gz") else data))
    assert [(film.id, film.plot) for film in films] == [(str(row["id"]), row["plot"]) for row in JSON_FILMS]
    assert [film.place for film in films] == [f"line {1 if indent is None else 2 + 4 * n}" for n in range(3)]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(JSON_FILMS[0]),
        json.dumps(JSON_FILMS[0], indent=2),
        json.dumps({"movies": JSON_FILMS[:1]}),
        json.dumps({"page": 1, "results": JSON_FILMS[:1], "links": []}, indent=2),
        "".join(json.dumps(row, indent=2) for row in JSON_FILMS[:1]),
    ],
)
def test_one_json_object_is_one_film_or_holds_a_list_of_them(tmp_path: Path, text: str) -> None:
    (film,) = films_of(write(tmp_path / "f.json", text))
    assert (film.id, film.plot) == ("0", JSON_FILMS[0]["plot"])


def test_a_broken_film_in_a_json_list_costs_no_other(tmp_path: Path) -> None:
    text = json.dumps([{"id": n, "plot": "p"} for n in range(4)], indent=1).replace(
        '"plot": "p"\n },', '"plot": "p\n,', 1
    )
    films = films_of(write(tmp_path / "f.json", text))
    assert [film.id for film in films] == ["0", "1", "2", "3"]
    assert problems(films) == [True, False, False, False]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_zstandard_is_unpacked(tmp_path: Path, suffix: str) -> None:
    text = "id,plot\n1,A ghost.\n" if suffix == ".csv" else '{"id": 1, "plot": "A ghost."}\n'
    path = write(tmp_path / f"f{suffix}.zst", zstd.compress(text.encode()))
    assert [(film.id, film.plot) for film in films_of(path)] == [("1", "A ghost.")]
    write(path, zstd.compress(text.encode() * 500)[:-9])
    with pytest.raises(MmgcsError, match="damaged or incomplete"):
        films_of(path)


def test_a_workbook_is_read() -> None:
    pytest.importorskip("fastexcel")
    films = films_of(Path(__file__).parents[1] / "data" / "films.xlsx")
    assert [(film.id, film.plot, film.year) for film in films] == [("7", "A ghost.", 1999)]


def test_many_files_are_one_table(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write(tmp_path / "a" / "1.csv", "id,plot\n1,one\n")
    write(tmp_path / "a" / "2.jsonl", '{"id": "2", "overview": "two", "x": 1}\n')
    write(tmp_path / "a" / "_done.csv", "id,plot\n9,no\n")
    write(tmp_path / "a" / "README.txt", "about these films")
    for address in (tmp_path / "a", tmp_path / "a" / "[0-9].*"):
        table = FilmTable(address)
        assert [(film.id, film.plot) for films in table.chunks() for film in films] == [("1", "one"), ("2", "two")]
        assert table.columns == ("id", "plot", "overview", "x")
        assert table.posters == tmp_path / "a"
        assert table.share() == 1.0


def test_a_media_library_is_not_a_table_and_the_message_says_what_reads_it(tmp_path: Path) -> None:
    (tmp_path / "movie.nfo").write_text("<movie/>", encoding="utf-8")
    with pytest.raises(UsageError, match="use mmgcs library"):
        list(read_films(tmp_path))


def test_a_hive_partitioned_folder_gives_its_columns(tmp_path: Path) -> None:
    for year in ("1999", "2000"):
        folder = tmp_path / "films" / f"year={year}" / "country=C%C3%B4te"
        folder.mkdir(parents=True)
        pl.DataFrame({"id": [f"tt{year}"], "plot": ["p"]}).write_parquet(folder / "part-0.parquet")
    films = films_of(tmp_path / "films")
    assert [(film.id, film.year, film.record["country"]) for film in films] == [
        (f"tt{year}", year, "Côte") for year in (1999, 2000)
    ]


@pytest.mark.parametrize("column", ["synopsis", "Description", "storyline", "PLOT", "Plot "])
def test_usual_names_of_the_plot_are_recognised_and_announced(tmp_path: Path, column: str) -> None:
    table = FilmTable(write(tmp_path / "f.csv", f"Show ID,{column},Listed_In\n1,A ghost.,Drama\n"))
    (film,) = next(table.chunks())
    assert (film.id, film.plot, film.genres) == ("1", "A ghost.", ("Drama",))
    assert "id is read from the column 'Show ID'" in table.notices
    assert any("plot is read" in notice for notice in table.notices) == (column.strip().lower() != "plot")


@pytest.mark.parametrize(
    "header", ["Titel;Jahr;Handlung;Genre", "Titre;Année;Résumé;Genres", "título;ano;sinopse;gêneros"]
)
def test_usual_names_in_other_languages_are_recognised_after_the_english_ones(tmp_path: Path, header: str) -> None:
    (film,) = films_of(write(tmp_path / "f.csv", f"{header}\nAsh Hill;1999;A ghost.;Krimi\n"))
    assert (film.title, film.year, film.plot, film.genres) == ("Ash Hill", 1999, "A ghost.", ("Crime",))
    (film,) = films_of(write(tmp_path / "f.csv", f"{header};overview\nAsh Hill;1999;no;Krimi;A ghost.\n"))
    assert film.plot == "A ghost."


def test_a_whole_table_is_read_as_text_whatever_its_format(tmp_path: Path) -> None:
    film = {"id": {"$oid": "1"}, "genres": ["Drama", "War"], "year": 1999, "plot": None}
    write(tmp_path / "year=2000" / "f.jsonl", json.dumps(film))
    write(tmp_path / "f.csv", "id,genres\n2,Drama|War\n3\n4,Drama\n")
    read = read_frame(tmp_path, [pl.col("id"), pl.col("genres"), pl.col("year")])
    assert read.frame.rows() == [("2", "Drama|War", None), ("4", "Drama", None), ("1", "Drama|War", "1999")]
    assert [problem.split(" has")[0] for problem in read.problems] == ["f.csv, line 3"]


def test_a_column_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "id,plot,what happens\n1,no,A ghost.\n")
    (film,) = films_of(path, columns={"plot": "What Happens"})
    assert (film.plot, film.record["plot"]) == ("A ghost.", "no")
    with pytest.raises(UsageError, match=r"has no column 'what'; its columns are id, plot, what happens"):
        films_of(path, columns={"plot": "what"})
    with pytest.raises(UsageError, match="there is no field plott"):
        films_of(path, columns={"plott": "what"})


PLACEHOLDERS = [
    "N/A", "n.a.", "None.", "UNKNOWN", "nan", "No overview found.", "Plot unknown", "Add a Plot »", "-", "...", "TBA",
    "We don't have an overview translated in English. Help us expand our database by adding one.",
    "Plot kept under wraps.", "No description available", "Sinopsis no disponible", "Aucun résumé disponible.",
    "Keine Beschreibung verfügbar", "Sem sinopse", "暂无简介", "Нет описания",
]  # fmt: skip
PLOTS = [
    "No man is an island.", "Unknown men rob a bank.", "Keine Handlung bleibt ohne Folgen: ein Mann flieht.",
    "The plot is unknown to the king, whose brother plans his death.", "N is a spy.", "Nessuno sa chi sia la donna.",
]  # fmt: skip


def test_a_placeholder_is_no_plot_but_a_plot_may_begin_like_one(tmp_path: Path) -> None:
    rows = [json.dumps({"title": "Murder Street", "plot": plot}) for plot in PLACEHOLDERS + PLOTS]
    films = films_of(write(tmp_path / "f.jsonl", "\n".join(rows)))
    for film, plot in zip(films, PLACEHOLDERS, strict=False):
        assert (film.plot, film.record["plot"]) == (None, plot)
        assert film.warnings == (f"the plot is a placeholder ({plot[:60]!r})",)
    assert [film.plot for film in films[len(PLACEHOLDERS) :]] == PLOTS


def test_markers_of_missing_values_are_missing(tmp_path: Path) -> None:
    (film,) = films_of(write(tmp_path / "f.csv", "id,title,year,plot,genres,poster\n1,\\N,N/A,A ghost.,N/A,N/A\n"))
    assert (film.title, film.year, film.genres, film.poster, film.warnings) == (None, None, None, None, ())
    assert (film.record["title"], film.record["year"]) == ("\\N", "N/A")


def test_images_of_hugging_face_are_posters(tmp_path: Path) -> None:
    images = [{"bytes": b"picture", "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}, None]
    pl.DataFrame({"id": ["a", "b", "c"], "image": images}).write_parquet(tmp_path / "f.parquet")
    films = films_of(tmp_path / "f.parquet")
    assert [film.poster for film in films] == [b"picture", tmp_path / "b.jpg", None]


def test_a_poster_that_must_be_downloaded_says_how(tmp_path: Path) -> None:
    write(tmp_path / "here.jpg", "picture")
    text = "id,plot,poster\n1,p,https://m.example.org/a.jpg\n2,p,/tmdb.jpg\n3,p,/here.jpg\n"
    films = films_of(write(tmp_path / "f.csv", text))
    assert [film.poster for film in films] == [None, None, tmp_path / "here.jpg"]
    how = "download posters first, with mmgcs data posters"
    assert films[0].warnings == (f"the poster https://m.example.org/a.jpg is a web address; {how}",)
    assert films[1].warnings == (f"the poster /tmdb.jpg is a path at TMDB; {how}",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.csv", "id,name\na,b\n", "no column for the plot .*--columns plot=COLUMN; its columns are id, name"),
        ("f.csv", "id,plot,plot\na,b,c\n", "column 'plot' more than once"),
        ("f.csv", "", "is empty"),
        ("f.xls", "PK", r"no table format '\.xls'; known: \.csv"),
        ("films", "id,plot\n", "no table format ''"),
        ("f.jsonl", "[1, 2]\n", r"is not JSON lines \(line 1 is not a JSON object\); give one object per line"),
        ("f.jsonl", "\n\n", "has no films; give a table with at least one"),
        ("f.json", "[]", "has no films; give a table with at least one"),
        ("f.jsonl", '{"a": [' + "[]," * 2**20 + "[]]}", r"is not JSON lines \(line 1 has too many lists and values"),
        ("f.parquet", "not parquet at all", "cannot be read as Parquet"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_one_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read_films(write(tmp_path / name, content))
    assert "\n" not in str(caught.value)


def test_a_date_that_python_does_not_know_is_told_in_one_line(tmp_path: Path) -> None:
    frame = pl.DataFrame({"plot": ["A ghost."], "made": [4_000_000]}, schema_overrides={"made": pl.Int32})
    frame.with_columns(pl.col("made").cast(pl.Date)).write_parquet(tmp_path / "f.parquet")
    with pytest.raises(UsageError, match=r"has a value that Python cannot represent \(year 12921 is out of range\)"):
        films_of(tmp_path / "f.parquet")


def test_a_pipe_in_place_of_a_table_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "films.csv")
    with pytest.raises(UsageError, match=r"cannot be read \(it is a pipe or a device"):
        read_films(tmp_path / "films.csv")


def test_ragged_rows_keep_their_place_and_what_they_hold(tmp_path: Path) -> None:
    films = films_of(write(tmp_path / "f.csv", "id,plot,note\na,one,x\nb,two\nc,three,x,y,z\nd,four,x\n"))
    assert [film.id for film in films] == ["a", "b", "c", "d"]
    assert problems(films) == [False, True, True, False]
    assert "line 3 has 2 fields where the header has 3" in (films[1].problem or "")
    assert "'y', 'z'" in (films[2].problem or "")


@pytest.mark.parametrize(
    "broken",
    ['b,"two,x', 'b,"two" or three,x', 'b,"he said "no" to them,x', 'b,"two,x"y', '"b,two,x'],
)
def test_a_stray_quote_costs_its_own_row_and_no_other(tmp_path: Path, broken: str) -> None:
    after = 'c,"three, quoted",x\n' + "".join(f'{n},"plot {n}, quoted",x\n' for n in range(50))
    films = films_of(write(tmp_path / "f.csv", f"id,plot,note\na,one,x\n{broken}\n{after}"))
    assert len(films) == 53
    assert problems(films[:1] + films[2:]) == [False] * 52
    assert films[2].plot == "three, quoted"
    assert films[1].problem is not None or any("broken quotes" in warning for warning in films[1].warnings)


@pytest.mark.parametrize("last", ['b,two",x', 'b,two,x"'])
def test_two_stray_quotes_do_not_swallow_the_films_between_them(tmp_path: Path, last: str) -> None:
    rows = ['a,"one,x', *(f"{n},plot {n},x" for n in range(500)), last, "c,three,x"]
    films = films_of(write(tmp_path / "f.csv", "id,plot,note\n" + "\n".join(rows) + "\n"))
    assert [film.id for film in films] == ["a", *map(str, range(500)), "b", "c"]
    assert problems(films) == [False] * 503
    assert [film.place for film in films if film.warnings] == ["line 2"]


@pytest.mark.parametrize("name", ["f.csv", "f.csv.gz", "f.jsonl", "f.parquet"])
def test_a_table_tells_how_far_it_was_read(tmp_path: Path, name: str) -> None:
    rows = [{"id": str(n), "plot": f"plot {n * 7919}"} for n in range(20_000)]
    frame = pl.DataFrame(rows)
    if name.endswith(".parquet"):
        frame.write_parquet(tmp_path / name)
    else:
        text = frame.write_csv() if ".csv" in name else frame.write_ndjson()
        write(tmp_path / name, gzip.compress(text.encode()) if name.endswith(".gz") else text)
    table = FilmTable(tmp_path / name)
    shares = [table.share() for _ in table.chunks(5000)]
    assert shares == sorted(shares)
    assert 0.1 < shares[0] < 0.6
    assert shares[-1] > 0.9


def test_huge_plots_make_small_chunks(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "id,plot\n" + "".join(f"{n},{'x' * 2**20}\n" for n in range(40)))
    assert [len(chunk) for chunk in read_films(path)] == [16, 16, 8]


def test_plots_over_several_lines_are_one_film(tmp_path: Path) -> None:
    plot = "line, one\n\n" + 'line "two"\n' * 5000
    path = tmp_path / "f.csv"
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([["id", "plot"], ["a", plot], ["b", "short"]])
    films = films_of(path)
    assert [film.plot for film in films] == [plot, "short"]
    assert films[0].problem is None


def test_bytes_that_are_not_utf8_and_nul_bytes_are_read_with_a_warning(tmp_path: Path) -> None:
    films = films_of(write(tmp_path / "f.csv", b"id,plot\na,caf\xe9\nb,n\x00ul\nc,fine\n"))
    assert [film.plot for film in films] == ["café", "nul", "fine"]
    assert "line 2 is not UTF-8" in films[0].warnings[0]
    assert "line 3 has NUL bytes" in films[1].warnings[0]
    assert films[2].warnings == ()


def test_an_id_that_occurs_again_is_warned_of_wherever_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "id,plot\n" + "".join(f"{n % 700},p\n" for n in range(1000)) + ",p\n,p\n")
    films = [film for chunk in FilmTable(path).chunks(64) for film in chunk]
    warned = [number for number, film in enumerate(films) if film.warnings]
    assert warned == list(range(700, 1000))
    assert films[700].warnings == ("the id '0' occurs earlier in the table",)


def test_years_in_their_usual_shapes_are_read(tmp_path: Path) -> None:
    years = ["1999", "1999.0", "1999-05-01", " 1999 ", "1999/5/1"]
    films = films_of(write(tmp_path / "f.csv", "plot,year\n" + "".join(f"b,{year}\n" for year in years)))
    assert [film.year for film in films] == [1999] * len(years)


def test_a_poster_that_leads_out_of_the_folder_is_an_error_of_its_film(tmp_path: Path) -> None:
    posters = tmp_path / "posters"
    posters.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (posters / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    outside = ["../secret.jpg", "/etc/passwd", "a/../../secret.jpg", "C:\\x.jpg", "link.jpg", "."]
    rows = "".join(f"plot,{poster}\n" for poster in [*outside, "inside/b.jpg"])
    *refused, inside = films_of(write(tmp_path / "f.csv", f"plot,poster\n{rows}"), posters=posters)
    for film in refused:
        assert "is outside the posters folder" in (film.problem or "")
        assert film.poster is None
    assert (inside.problem, inside.poster) == (None, posters / "inside/b.jpg")


def test_standard_input_is_a_table_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "in.csv", "id,plot\na,one\n")
    with path.open() as handle:
        monkeypatch.setattr("sys.stdin", handle)
        with spooled_stdin(".csv") as spooled:
            assert [film.id for film in films_of(spooled)] == ["a"]
        assert not spooled.exists()


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), min_size=1, max_size=20))
@example([("1", "A ghost.\rIt haunts.", "x")])
def test_a_csv_table_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "f.csv"
    # A cell with a line break and quotes may look like rows of its own; such rows are split on purpose.
    clean = [[cell.replace("\x00", "").replace('"', "" if "\n" in cell else '"') for cell in row] for row in rows]
    columns = ("id", "plot", "note")
    written = [dict(zip(columns, row, strict=True)) for row in clean]
    write_table(written, path, dict.fromkeys(columns, pl.String()))
    films = films_of(path)
    assert [film.record for film in films] == written
    assert problems(films) == [False] * len(rows)


@given(st.binary(max_size=2000))
def test_no_bytes_at_all_make_reading_crash(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    for name in ("f.csv", "f.jsonl"):
        header = b"id,plot\n" if name == "f.csv" else b'{"plot": ""}\n'
        films_of(write(folder / name, header + data))


@pytest.mark.parametrize("name", ["f.csv", "f.jsonl", "f.parquet"])
def test_a_table_of_more_columns_than_any_has_is_refused_with_one_line(tmp_path: Path, name: str) -> None:
    columns = ["plot", *map(str, range(60_000))]
    path = write(tmp_path / name, ",".join(columns) if name == "f.csv" else json.dumps(dict.fromkeys(columns)))
    if name == "f.parquet":
        pl.DataFrame({column: ["p"] for column in columns[:10_001]}).write_parquet(path)
    with pytest.raises(UsageError, match="has more than 10,000 columns; leave out"):
        FilmTable(path)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{broken", "is not JSON"),
        ("[1, 2]", "is not a JSON object"),
        ('{"id": ' + "[" * 100_000, "is not JSON"),
        ('{"id": ' + "9" * 5000 + "}", "is not JSON"),
        (f'{{"plot": "a", "x": {"[" * 900}{"]" * 900}}}', "is nested more than 100 deep; fix the line"),
        ('{"plot": "A man runs", "a": [' + "[]," * 1_000_000 + "[]]}", "has too many lists and values"),
    ],
)
def test_a_broken_line_of_jsonl_keeps_its_place(tmp_path: Path, line: str, problem: str) -> None:
    last = json.dumps({"id": 3, "plot": "p \ud800", "x": [[{"a": [0]}], "\ud801"]})
    films = films_of(write(tmp_path / "f.jsonl", f'{{"id": 1, "plot": "one"}}\n{line}\n\n{last}\n'))
    assert problems(films) == [False, True, False]
    assert problem in (films[1].problem or "")
    assert films[2].plot == "p \ufffd"  # half of a pair cannot be written again
    assert films[2].record["x"] == [[{"a": [0]}], "\ufffd"]


def test_values_of_the_wrong_type_are_ignored_with_a_warning_and_kept(tmp_path: Path) -> None:
    row = {"id": 7, "plot": ["a", "list"], "title": 300, "year": "soon", "genres": 5, "poster": True}
    (film,) = films_of(write(tmp_path / "f.jsonl", json.dumps(row)))
    assert (film.id, film.plot, film.title, film.year, film.genres) == ("7", None, "300", None, None)
    assert [warning.split(",")[0] for warning in film.warnings] == [
        "the plot is a list",
        "ignored invalid year 'soon'",
        "the poster is true or false",
    ]
    assert film.record == row
