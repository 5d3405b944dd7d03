"""Tables of films are read in every shape they come in, and no row is lost."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from windows import open_files

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.film import Film
from mmgcs.tables import FilmTable, open_films, read_films
from mmgcs.tables.source import spooled_stdin

HEADER = "id,title,year,plot,genres,poster,note\n"


def films_of(path: Path, **options: object) -> list[Film]:
    return [film for chunk in read_films(path, **options) for film in chunk]  # type: ignore[arg-type]


def write(path: Path, content: str | bytes) -> Path:
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
    assert films_of(as_table(tmp_path / name)) == [
        Film("a", "One", 1999, "A thief, returns", genres=("Crime", "Drama"), extra={"note": "x"}),
        Film("b", None, None, 'He said "no"\nand left', extra={"note": "y"}),
    ]


def test_columns_are_found_under_their_other_names_and_in_any_case(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "IMDb_ID,Overview,Genres\ntt1,A plot,\"[{'id': 18, 'name': 'Drama'}]\"\n")
    (film,) = films_of(path)
    assert (film.id, film.plot, film.genres) == ("tt1", "A plot", ("Drama",))


def test_a_table_without_ids_numbers_its_films(tmp_path: Path) -> None:
    assert [film.id for film in films_of(write(tmp_path / "f.csv", "plot,x\none,1\ntwo,2\n"))] == ["1", "2"]


def test_a_chunk_holds_as_many_films_as_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "plot,x\n" + "p,1\n" * 10)
    assert [len(chunk) for chunk in read_films(path, chunk=4)] == [4, 4, 2]


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", b"\xef\xbb\xbfid,plot\r\na,one\r\n\r\nb,two\r\n\x1a")
    assert [(film.id, film.plot) for film in films_of(path)] == [("a", "one"), ("b", "two")]


def test_utf16_as_spreadsheets_write_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "f.tsv", "id\tplot\na\tcafé 🎬\n".encode("utf-16"))
    assert films_of(path)[0].plot == "café 🎬"


@pytest.mark.parametrize(("delimiter", "name"), [(";", "semicolon"), ("\t", "tab"), ("|", "bar")])
def test_another_delimiter_is_named_and_can_be_given(tmp_path: Path, delimiter: str, name: str) -> None:
    path = write(tmp_path / "f.csv", f"id{delimiter}plot\na{delimiter}one\n")
    with pytest.raises(UsageError, match=f"separated by a {name}, not a comma; give mmgcs tag --delimiter"):
        read_films(path)
    assert films_of(path, delimiter=delimiter)[0].plot == "one"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.csv", "id,name\na,b\n", "no column plot .*its columns are id, name"),
        ("f.csv", "id,plot,plot\na,b,c\n", "column 'plot' more than once"),
        ("f.csv", "", "is empty"),
        ("f.xlsx", "PK", r"no table format '\.xlsx'; known: \.csv"),
        ("films", "id,plot\n", "no table format ''"),
        ("f.jsonl", "[1, 2]\n", r"is not JSON lines \(line 1 is not a JSON object\); give one object a line"),
        ("f.jsonl", "\n\n", r"is not JSON lines \(it is blank\)"),
        ("f.jsonl", '{"a": [' + "[]," * 2**20 + "[]]}", r"is not JSON lines \(line 1 holds more lists and values than"),
        ("f.parquet", "not parquet at all", "cannot be read as Parquet"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_one_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read_films(write(tmp_path / name, content))
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_or_are_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_films(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="is a folder"):
        read_films(tmp_path)
    with pytest.raises(UsageError, match=r"posters folder .* does not exist"):
        read_films(write(tmp_path / "f.csv", "id,plot\na,b\n"), tmp_path / "none")


@pytest.mark.parametrize("name", ["films.csv", "films.jsonl.gz", "films.parquet"])
def test_a_pipe_in_place_of_a_table_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(UsageError, match=r"cannot be read \(it is a pipe or a device"):
        read_films(tmp_path / name)


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


def test_a_quote_that_is_never_closed_loses_nothing_after_it(tmp_path: Path) -> None:
    films = films_of(write(tmp_path / "f.csv", 'id,plot\na,"one\n' + "".join(f"{n},plot\n" for n in range(2000))))
    assert [film.id for film in films] == ["a", *map(str, range(2000))]


@pytest.mark.parametrize("last", ['b,two",x', 'b,two,x"'])
def test_two_stray_quotes_do_not_swallow_the_films_between_them(tmp_path: Path, last: str) -> None:
    rows = ['a,"one,x', *(f"{n},plot {n},x" for n in range(500)), last, "c,three,x"]
    films = films_of(write(tmp_path / "f.csv", "id,plot,note\n" + "\n".join(rows) + "\n"))
    assert [film.id for film in films] == ["a", *map(str, range(500)), "b", "c"]
    assert [film.place for film in films if film.problem] == ["line 2"]


def test_every_film_knows_its_place(tmp_path: Path) -> None:
    csv_films = films_of(write(tmp_path / "f.csv", 'id,plot\na,"one\nand more"\n\nb,two\n'))
    assert [film.place for film in csv_films] == ["line 2", "line 5"]
    jsonl_films = films_of(write(tmp_path / "f.jsonl", '{"plot": "one"}\n\n{"plot": "two"}\n'))
    assert [film.place for film in jsonl_films] == ["line 1", "line 3"]
    pl.DataFrame({"plot": ["one", "two"]}).write_parquet(tmp_path / "f.parquet")
    assert [film.place for film in films_of(tmp_path / "f.parquet")] == ["row 1", "row 2"]


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


def test_a_megabyte_plot_is_kept_whole(tmp_path: Path) -> None:
    films = films_of(write(tmp_path / "f.csv", f"id,plot\na,{'word ' * 200_000}\nb,two\n"))
    assert [len(film.plot or "") for film in films] == [1_000_000, 3]


def test_bytes_that_are_not_utf8_and_nul_bytes_are_read_with_a_warning(tmp_path: Path) -> None:
    films = films_of(write(tmp_path / "f.csv", b"id,plot\na,caf\xe9\nb,n\x00ul\nc,fine\n"))
    assert [film.plot for film in films] == ["café", "nul", "fine"]
    assert "line 2 is not UTF-8" in films[0].warnings[0]
    assert "line 3 has NUL bytes" in films[1].warnings[0]
    assert films[2].warnings == ()


def test_an_id_that_occurs_again_is_warned_of_wherever_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "id,plot\n" + "".join(f"{n % 700},p\n" for n in range(1000)) + ",p\n,p\n")
    films = [film for chunk in read_films(path, chunk=64) for film in chunk]
    warned = [number for number, film in enumerate(films) if film.warnings]
    assert warned == list(range(700, 1000))
    assert films[700].warnings == ("the id '0' occurs earlier in the table",)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{broken", "is not JSON"),
        ("[1, 2]", "is not a JSON object"),
        ('{"id": ' + "[" * 100_000, "is not JSON"),
        ('{"id": ' + "9" * 5000 + "}", "is not JSON"),
    ],
)
def test_a_broken_line_of_jsonl_keeps_its_place(tmp_path: Path, line: str, problem: str) -> None:
    films = films_of(write(tmp_path / "f.jsonl", f'{{"id": 1, "plot": "one"}}\n{line}\n\n{{"id": 3, "plot": "p"}}\n'))
    assert problems(films) == [False, True, False]
    assert problem in (films[1].problem or "")


def test_values_of_the_wrong_type_are_left_aside_with_a_warning_and_kept(tmp_path: Path) -> None:
    row = {"id": 7, "plot": ["a", "list"], "title": 300, "year": "soon", "genres": 5, "poster": True}
    (film,) = films_of(write(tmp_path / "f.jsonl", json.dumps(row)))
    assert (film.id, film.plot, film.title, film.year, film.genres) == ("7", None, "300", None, None)
    assert any("the plot is a list, not text" in warning for warning in film.warnings)
    assert any("'soon' is not a year" in warning for warning in film.warnings)
    assert film.record["plot"] == ["a", "list"]
    assert film.record["year"] == "soon"


def test_halves_of_surrogate_pairs_can_be_written_again(tmp_path: Path) -> None:
    (film,) = films_of(write(tmp_path / "f.jsonl", '{"id": "\\ud800", "plot": "a\\udfff", "x": ["\\ud801"]}\n'))
    assert (film.id, film.plot, film.record) == (
        "\ufffd",
        "a\ufffd",
        {"id": "\ufffd", "plot": "a\ufffd", "x": ["\ufffd"]},
    )


def test_columns_that_only_some_lines_have_are_found(tmp_path: Path) -> None:
    films = films_of(write(tmp_path / "f.jsonl", '{"id": 1, "x": 1}\n{"id": 2, "overview": "two"}\n'))
    assert [film.plot for film in films] == [None, "two"]


@pytest.mark.parametrize("year", ["1999", "1999.0", "1999-05-01", " 1999 ", "1999/5/1"])
def test_years_in_their_usual_shapes_are_read(tmp_path: Path, year: str) -> None:
    assert films_of(write(tmp_path / "f.csv", f"id,plot,year\na,b,{year}\n"))[0].year == 1999


@pytest.mark.parametrize("poster", ["../secret.jpg", "/etc/passwd", "a/../../secret.jpg", "C:\\x.jpg", "link.jpg", "."])
def test_a_poster_that_leads_out_of_the_folder_is_an_error_of_its_film(tmp_path: Path, poster: str) -> None:
    posters = tmp_path / "posters"
    posters.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (posters / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    path = write(tmp_path / "f.csv", f"id,plot,poster\na,one,{poster}\nb,two,inside/b.jpg\n")
    films = films_of(path, posters=posters)
    assert "leads out of the posters folder" in (films[0].problem or "")
    assert films[0].poster is None
    assert films[1].problem is None
    assert films[1].poster == posters / "inside/b.jpg"


def test_posters_are_looked_for_beside_the_table_without_a_folder(tmp_path: Path) -> None:
    (film,) = films_of(write(tmp_path / "f.csv", "id,poster\na,p/a.jpg\n"))
    assert film.poster == tmp_path / "p/a.jpg"


def test_posters_held_as_bytes_in_parquet_are_taken(tmp_path: Path) -> None:
    pl.DataFrame({"id": ["a", "b"], "poster": [b"bytes", None]}).write_parquet(tmp_path / "f.parquet")
    assert [film.poster for film in films_of(tmp_path / "f.parquet")] == [b"bytes", None]


def test_a_compressed_table_that_is_cut_short_says_so(tmp_path: Path) -> None:
    data = gzip.compress(("id,plot\n" + "".join(f"{n},plot {n * 7919}\n" for n in range(5000))).encode())
    path = write(tmp_path / "f.csv.gz", data[: len(data) // 2])
    with pytest.raises(MmgcsError, match="damaged or cut short"):
        films_of(path)


def test_standard_input_is_a_table_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "in.csv", "id,plot\na,one\n")
    with path.open() as handle:
        monkeypatch.setattr("sys.stdin", handle)
        with open_films(Path("-"), posters=tmp_path) as table:
            assert [film.id for chunk in table.chunks() for film in chunk] == ["a"]
        assert not table.path.exists()


def test_standard_input_is_a_closed_file_because_windows_opens_no_temporary_file_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with write(tmp_path / "in.csv", "id,plot\na,one\n").open() as handle:
        monkeypatch.setattr("sys.stdin", handle)
        with spooled_stdin(".csv") as path:
            assert path not in open_files()
            assert path.read_bytes() == b"id,plot\na,one\n"


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), min_size=1, max_size=20))
def test_whatever_a_csv_writer_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[object]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "f.csv"
    clean = [[cell.replace("\x00", "") for cell in row] for row in rows]
    with path.open("w", newline="", encoding="utf-8", errors="replace") as handle:
        writer = csv.writer(handle, quoting=csv.QUOTE_ALL)
        writer.writerow(["id", "plot", "note"])
        writer.writerows(clean)
    films = films_of(path)
    assert [film.record["note"] for film in films] == [row[2].encode(errors="replace").decode() for row in clean]
    assert problems(films) == [False] * len(rows)


@given(st.binary(max_size=2000))
def test_no_bytes_at_all_make_reading_crash(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    for name in ("f.csv", "f.jsonl"):
        header = b"id,plot\n" if name == "f.csv" else b'{"plot": ""}\n'
        films_of(write(folder / name, header + data))


def test_opening_reads_no_further_than_it_must(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", HEADER + "a,b,1999,c,d,,e\n" * 100_000)
    table = FilmTable(path)
    assert len(next(table.chunks(10))) == 10
    assert table.columns == tuple(HEADER.strip().split(","))


@pytest.mark.parametrize("name", ["f.csv", "f.jsonl", "f.parquet"])
def test_a_table_of_more_columns_than_any_has_is_refused_with_one_line(tmp_path: Path, name: str) -> None:
    columns = ["plot", *map(str, range(60_000))]
    path = write(tmp_path / name, ",".join(columns) if name == "f.csv" else json.dumps(dict.fromkeys(columns)))
    if name == "f.parquet":
        pl.DataFrame({column: ["p"] for column in columns[:10_001]}).write_parquet(path)
    with pytest.raises(UsageError, match="has more than 10,000 columns; leave out"):
        FilmTable(path)


@pytest.mark.parametrize("depth", [600, 900])
def test_a_row_that_is_nested_deeply_is_its_own_problem(tmp_path: Path, depth: int) -> None:
    rows = [{"id": 1, "plot": "one", "x": [[{"a": [0]}]]}, {"id": 2, "plot": "two", "x": "\ud800"}]
    deep = json.dumps(rows[1]).replace("}", f', "y": {"[" * depth}{"]" * depth}}}')
    films = films_of(write(tmp_path / "f.jsonl", f'{json.dumps(rows[0])}\n{deep}\n{{"id": 3, "plot": "p"}}\n'))
    assert problems(films) == [False, True, False]
    assert films[1].problem == "line 2 is nested more than 100 deep; mend the line"
    assert films[0].record == rows[0]


@pytest.mark.parametrize("name", ["f.csv", "f.jsonl", "f.parquet"])
def test_rows_of_many_small_values_make_small_chunks(tmp_path: Path, name: str) -> None:
    rows = [{"plot": "p", **{str(column): column % 9 for column in range(5000)}} for _ in range(300)]
    path = tmp_path / name
    if name == "f.parquet":
        pl.DataFrame(rows).write_parquet(path)
    elif name == "f.csv":
        pl.DataFrame(rows).write_csv(path)
    else:
        write(path, "".join(json.dumps(row) + "\n" for row in rows))
    sizes = [len(chunk) for chunk in read_films(path)]
    assert sum(sizes) == 300
    assert max(sizes) < 120


def test_a_line_of_a_million_lists_is_its_own_problem(tmp_path: Path) -> None:
    line = '{"plot": "A man runs", "a": [' + "[]," * 1_000_000 + "[]]}\n"
    films = films_of(write(tmp_path / "f.jsonl", line + f'{{"plot": "{"word, " * 200_000}"}}\n'))
    assert films[0].problem == "line 1 holds more lists and values than a film has; mend the line"
    assert (films[1].problem, len(films[1].plot or "")) == (None, 1_200_000)
