"""Films of a database that are new or changed are tagged, into other tables, whatever type their key has."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from http_server import picture

from mmgcs import load
from mmgcs.cli import main
from mmgcs.errors import MmgcsError, UsageError
from mmgcs.runtime import Classifier
from mmgcs.tables.databases import FilmDatabase
from mmgcs.tagging import TagSummary
from mmgcs.tagging.database import model_name, tag_database

PLOTS = [
    "Two detectives hunt a killer in the city",
    "A ghost and a vampire in a haunted village",
    "Love and marriage of two young lovers",
    "",
    "A band and a singer on the piano",
]
FILMS = 3000
SLOW = """
import sys, time
from mmgcs import load
from mmgcs.tables.databases import FilmDatabase
from mmgcs.tagging.database import tag_database
def progress(summary):
    print(summary.films, flush=True)
    time.sleep(0.05)
tag_database(load(sys.argv[2]), FilmDatabase(sys.argv[1], "films"), progress=progress)
"""


def rows_of_films(count: int = FILMS) -> list[tuple[Any, ...]]:
    return [(number * 7 - 700, f"Film {number}", PLOTS[number % 5], 1950 + number % 70) for number in range(count)]


def change(path: Path, *statements: str, values: str = "", rows: Sequence[tuple[Any, ...]] = ()) -> Path:
    """Run statements in an SQLite file, and insert rows by the statement `values`."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
        if values:
            connection.executemany(values, rows)
    return path


def sqlite_films(path: Path, count: int = FILMS) -> Path:
    table = "create table films (film_no integer primary key, title text, overview text, year integer)"
    return change(path, table, values="insert into films values (?, ?, ?, ?)", rows=rows_of_films(count))


def sqlite_rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def tag(classifier: Classifier, address: str | Path, table: str = "films", **options: Any) -> TagSummary:
    address = f"sqlite:///{address}" if isinstance(address, Path) else address
    with closing(FilmDatabase(address, table, **options)) as database:
        return tag_database(classifier, database)


COLUMNS = "film_id, genres, confidence, sure, error, warnings, input_hash, model"
PREDICTED = f"select {COLUMNS} from mmgcs_predictions order by 1"
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "tag-a-database.md"


def test_every_film_gets_one_row_and_the_source_stays_as_it_was(classifier: Classifier, tmp_path: Path) -> None:
    path = sqlite_films(tmp_path / "films.db", 600)
    summary = tag(classifier, path)
    rows = sqlite_rows(path, PREDICTED)
    assert len(rows) == 600 == summary.films
    assert rows[0][1] == "Crime|Thriller"
    assert 0.5 < rows[0][2] < 1.0
    assert [row[4] for row in rows[:5]] == [None, None, None, rows[3][4], None]
    assert (rows[3][1:4], summary.in_error) == (("", None, None), 120)
    assert {row[7] for row in rows} == {model_name(classifier)}
    assert sqlite_rows(path, "select * from films order by 1") == rows_of_films(600)
    columns = [row[1] for row in sqlite_rows(path, "select * from pragma_table_info('mmgcs_predictions')")]
    assert columns == [*COLUMNS.split(", "), "tagged_at"]
    (query,) = re.findall(r"```sql\n(.+?)\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    joined = sqlite_rows(path, query.replace("f.id", "f.film_no"))
    assert len(joined) == 600


def test_new_and_changed_films_are_tagged_whatever_their_key_and_deleted_ones_are_reported(
    classifier: Classifier, tmp_path: Path
) -> None:
    path = tmp_path / "films.db"
    change(
        path,
        "create table films (imdb text primary key, plot text)",
        "insert into films values ('tt9000000', 'A ghost'), ('tt5000000', 'love'), ('tt4000000', null)",
    )
    first = tag(classifier, path)
    assert (first.films, first.unchanged, first.deleted) == (3, 0, 0)
    again = tag(classifier, path)
    assert (again.films, again.unchanged, again.in_error) == (0, 3, 0)
    change(
        path,
        "insert into films values ('tt0078748', 'A detective'), ('tt6000000', 'a band')",
        "update films set plot = 'a band and a singer' where imdb = 'tt5000000'",
        "delete from films where imdb = 'tt9000000'",
    )
    third = tag(classifier, path)
    assert (third.films, third.unchanged, third.deleted) == (3, 1, 1)
    assert [row[:2] for row in sqlite_rows(path, PREDICTED)] == [
        ("tt0078748", "Crime"),
        ("tt4000000", ""),
        ("tt5000000", "Music"),
        ("tt6000000", "Music"),
        ("tt9000000", "Horror"),
    ]
    assert tag(classifier, path).films == 0


def test_models_stand_side_by_side_and_overwrite_replaces_only_ones_own(
    classifier: Classifier, tiny_bundle: Path, tmp_path: Path
) -> None:
    path = sqlite_films(tmp_path / "films.db", 10)
    tag(classifier, path)
    other = tmp_path / "other"
    shutil.copytree(tiny_bundle, other)
    manifest = other / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text(encoding="utf-8")), indent=7), encoding="utf-8")
    assert tag(load(other), path).films == 10
    before = sqlite_rows(path, f"select {COLUMNS} from mmgcs_predictions order by 1, model")
    assert len(before) == 20
    with closing(FilmDatabase(f"sqlite:///{path}", "films")) as database:
        assert tag_database(classifier, database, overwrite=True).films == 10
    assert sqlite_rows(path, f"select {COLUMNS} from mmgcs_predictions order by 1, model") == before


def test_probabilities_have_a_table_of_their_own_and_a_view_joins_them(classifier: Classifier, tmp_path: Path) -> None:
    path = sqlite_films(tmp_path / "films.db", 10)
    tag(classifier, path)
    assert tag(classifier, path, probabilities=True).films == 8  # all but two films in error
    assert tag(classifier, path, probabilities=True).films == 0
    rows = sqlite_rows(path, "select film_id, genre, chosen from mmgcs_predictions_probabilities order by 1, 2")
    assert len(rows) == 8 * 10
    assert [row[1] for row in rows[:10] if row[2]] == ["Crime", "Thriller"]
    assert sqlite_rows(path, "select count(*), count(genre), count(error) from mmgcs_predictions_view") == [(82, 80, 2)]


def test_a_condition_columns_and_the_key_can_be_named(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "films.db"
    change(
        path,
        "create table films (uuid text, Beschreibung text, kind text)",
        "insert into films values ('b', 'A ghost', 'movie'), ('a', 'love', 'movie'), ('c', 'love', '100% series:x')",
    )
    names = {"plot": "beschreibung", "id": "uuid"}
    assert tag(classifier, path, columns=names, where="kind = 'movie'").films == 2
    assert tag(classifier, path, columns=names, where="kind like '100%:x' or uuid = 'a'").films == 1
    assert tag(classifier, path, columns=names, where="kind = 'movie'").deleted == 0
    for columns, where, message in (
        ({**names, "title": "name"}, None, "films has no column 'name'; its columns are uuid, Beschreibung, kind"),
        ({**names, "plto": "kind"}, None, "--columns plto=kind: there is no field plto; known: id, title"),
        (names, "kind =", r"--where 'kind =' failed \(.*syntax error"),
    ):
        with pytest.raises(UsageError, match=message):
            tag(classifier, path, columns=columns, where=where)


@pytest.mark.parametrize(
    ("declared", "keys"),
    [
        ("GUID", [b"\xff\x00" * 8, b"\x01" * 16]),
        ("UUID", ["00000000-0000-0000-0000-00000000000a", "x"]),
        ("STRING", ["tt001", "tt002"]),
        ("NUMERIC", [7, "N/A"]),
        ("DATE", ["1999-03-31", "soon"]),
    ],
)
def test_values_of_sqlite_may_be_other_than_their_column_declares(
    classifier: Classifier, tmp_path: Path, declared: str, keys: list[Any]
) -> None:
    path = change(
        tmp_path / "films.db",
        f"create table films (key {declared} primary key not null, title json, plot json, year datetime)",
        values="insert into films values (?, ?, ?, ?)",
        rows=[(keys[0], "A {", b"a ghost", "1984-05-01T00:00:00Z"), (keys[1], None, "love", "1020211200")],
    )
    assert tag(classifier, path).films == 2
    found = {row[0]: row[1] for row in sqlite_rows(path, PREDICTED)}
    assert found == {keys[0]: "Horror", keys[1]: "Romance"}
    assert tag(classifier, path).films == 0


def test_a_key_that_is_not_unique_is_refused_wherever_it_repeats(classifier: Classifier, tmp_path: Path) -> None:
    keys = [(min(n, 511),) for n in range(513)]
    table, insert = "create table films (no integer, plot text)", "insert into films values (?, 'love')"
    path = change(tmp_path / "films.db", table, values=insert, rows=keys)
    with pytest.raises(MmgcsError, match="the key no of films is not unique"):
        tag(classifier, path, key="no")


def kill_half_way(command: list[str]) -> None:
    """Run until two pages are committed, then kill -9."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_killed_run_that_is_repeated_gives_the_same_table(
    classifier: Classifier, tiny_bundle: Path, tmp_path: Path
) -> None:
    disturbed, whole = sqlite_films(tmp_path / "disturbed.db"), sqlite_films(tmp_path / "whole.db")
    kill_half_way([sys.executable, "-c", SLOW, f"sqlite:///{disturbed}", str(tiny_bundle)])
    ((done,),) = sqlite_rows(disturbed, "select count(*) from mmgcs_predictions")
    assert 1024 <= done < FILMS
    assert tag(classifier, disturbed).films == FILMS - done
    tag(classifier, whole)
    assert sqlite_rows(disturbed, PREDICTED) == sqlite_rows(whole, PREDICTED)


def test_a_locked_database_is_waited_for_and_then_named(classifier: Classifier, tmp_path: Path) -> None:
    path = sqlite_films(tmp_path / "films.db", 10)
    holder = sqlite3.connect(path, isolation_level=None)
    with closing(FilmDatabase(f"sqlite:///{path}?timeout=0", "films", patience=0.3)) as database:
        holder.execute("begin exclusive")
        with pytest.raises(
            MmgcsError, match=r"films\.db.* \(database is locked\); fix that, then run the same command"
        ):
            tag_database(classifier, database)
        holder.close()
        assert tag_database(classifier, database).films == 10


def test_two_runs_at_once_write_every_film_once(classifier: Classifier, tmp_path: Path) -> None:
    path = sqlite_films(tmp_path / "films.db", 1500)
    first, second = (FilmDatabase(f"sqlite:///{path}", "films") for _ in range(2))

    def other_comes_between(summary: TagSummary) -> None:
        if summary.films == 512:
            tag_database(classifier, second)

    tag_database(classifier, first, progress=other_comes_between)
    first.close()
    second.close()
    assert sqlite_rows(path, "select count(*), count(distinct film_id) from mmgcs_predictions") == [(1500, 1500)]


def test_text_keys_untyped_columns_posters_as_bytes_and_damaged_text_are_read(
    classifier: Classifier, tmp_path: Path
) -> None:
    path = change(
        tmp_path / "odd.db",
        "create table films (id primary key, plot, poster)",
        "insert into films values ('c', cast(x'4120e96e7420ff20' || 'ghost' as text), null)",
        values="insert into films values (?, ?, ?)",
        rows=[("b", "A ghost", None), ("a", None, picture()), ("é", "A ghost", "../out.jpg"), (None, "A ghost", None)],
    )
    summary = tag(classifier, path)
    errors = {row[0]: row[4] for row in sqlite_rows(path, PREDICTED)}
    assert (summary.films, summary.in_error, summary.without_key) == (4, 1, 1)
    assert "1 films cannot be tagged because their key is null; give them a key" in summary.lines()
    again = tag(classifier, path)
    assert (again.films, again.in_error, again.without_key) == (0, 0, 1)
    assert [errors[key] for key in "abc"] == [None] * 3
    assert "is outside the posters folder" in errors["é"]


def test_keys_that_are_not_utf8_are_stored_as_they_are(classifier: Classifier, tmp_path: Path) -> None:
    insert = "insert into films values (cast(? as text), 'A ghost')"
    keys = [(f"{number:03}".encode() + b"\xe9",) for number in range(514)]  # two pages
    table = "create table films (id text primary key, plot text)"
    path = change(tmp_path / "films.db", table, values=insert, rows=keys)
    first = tag(classifier, path, probabilities=True)
    again = tag(classifier, path, probabilities=True)
    assert (first.films, again.films, again.unchanged, again.deleted) == (514, 0, 514, 0)
    joined = "select count(*) from films join mmgcs_predictions_probabilities on film_id = id where genre = 'Horror'"
    assert sqlite_rows(path, joined) == [(514,)]


@pytest.mark.parametrize(
    ("address", "table", "options", "message"),
    [
        ("films.db", "films", {}, "--from is not the address of a database"),
        ("teapot://u:secret@x/y", "films", {}, "--from is not the address of a database that SQLAlchemy knows"),
        ("sqlite:///none.db", "films", {}, "none.db does not exist; check --from"),
        ("sqlite://", "films", {}, "the database sqlite:// does not exist"),
        ("sqlite:///{db}", "movies", {}, "main of .*films.db has no table 'movies'; it has bare, films, keyless"),
        ("sqlite:///{db}", "films", {"key": "isan"}, "--key isan: films has no such column; it has film_no, title"),
        ("sqlite:///{db}", "keyless", {}, "keyless has no primary key; name a column that is unique"),
        ("sqlite:///{db}", "bare", {}, "bare has no column for the plot .* or the poster; name it with --columns"),
        ("sqlite:///{db}", "films", {"into": "films"}, "films exists, but its columns are not those"),
        ("sqlite:///{db}", "films", {"posters": Path("nowhere")}, "posters folder nowhere does not exist"),
    ],
)
def test_wrong_calls_are_told_in_one_line(
    address: str, table: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = sqlite_films(tmp_path / "films.db", 1)
    change(path, "create view keyless as select * from films", "create table bare (id integer primary key, name text)")
    with pytest.raises(UsageError, match=message) as raised:
        FilmDatabase(address.format(db=path), table, **options)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_predictions_of_two_tables_are_kept_apart(classifier: Classifier, tmp_path: Path) -> None:
    path = sqlite_films(tmp_path / "films.db", 5)
    change(path, "create view old as select * from films where year < 1952")
    tag(classifier, path)
    with pytest.raises(UsageError, match="holds predictions for films; give --into another name"):
        tag(classifier, path, "old", key="film_no")
    assert tag(classifier, path, "old", key="film_no", into="old_genres").films == 2


class Postgres:
    """A server of our own in a temporary folder; if we are root, another user runs it."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self._programs = folder, programs
        self._user: list[str] = []
        if os.getuid() == 0:
            self._user = ["runuser", "-u", "postgres", "--"]
            shutil.chown(folder, "postgres")
        self._run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "films", "--no-sync", "-E", "UTF8")
        self.address = f"postgresql://films@/postgres?host={folder}"
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._user, str(self._programs / program), *arguments]
        done = subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
        assert done.returncode == 0, program

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-l", log, "-w", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(host=str(self.folder), user="films", dbname="postgres", autocommit=True)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("no PostgreSQL server is installed (Debian's package postgresql)")
    if os.getuid() == 0 and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and runuser is not installed")
    # Not in pytest's folder: the path of a socket must be short, and another user must be able to read it.
    name = hashlib.sha256(str(tmp_path_factory.getbasetemp()).encode()).hexdigest()[:12]
    folder = Path("/tmp") / f"mmgcs-pg-{name}"
    folder.mkdir(mode=0o755)
    server = Postgres(folder, programs[-1].parent)
    with server.connect() as connection:
        connection.execute(
            "create table films (film_no bigint primary key, title varchar(80), overview text, year smallint)"
        )
        with connection.cursor().copy("copy films (film_no, title, overview, year) from stdin") as copy:
            for row in rows_of_films():
                copy.write_row(row)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.mark.slow
def test_a_server_that_is_stopped_for_a_moment_is_waited_for(classifier: Classifier, postgres: Postgres) -> None:
    database = FilmDatabase(postgres.address, "films", into="waited", probabilities=True)

    def restart(summary: TagSummary) -> None:
        if summary.films == 1024:
            postgres.stop()
            postgres.start()

    summary = tag_database(classifier, database, progress=restart)
    database.close()
    assert (summary.films, summary.in_error) == (FILMS, FILMS // 5)
    assert postgres.rows("select count(*), count(distinct film_id) from waited") == [(FILMS, FILMS)]
    assert postgres.rows("select count(*) from waited_view where genre is not null") == [(FILMS * 8,)]


@pytest.mark.slow
def test_a_server_that_stays_away_ends_the_run_in_one_line_and_a_rerun_completes(
    classifier: Classifier, postgres: Postgres
) -> None:
    database = FilmDatabase(postgres.address, "films", patience=0.5)

    def stop(summary: TagSummary) -> None:
        if summary.films == 1024:
            postgres.stop()

    with pytest.raises(
        MmgcsError, match=r"^postgresql\+psycopg://films@.* cannot be reached \(.*\); fix that"
    ) as raised:
        tag_database(classifier, database, progress=stop)
    database.close()
    assert "\n" not in str(raised.value)
    postgres.start()
    ((done,),) = postgres.rows("select count(*) from mmgcs_predictions")
    assert tag(classifier, postgres.address).films == FILMS - done
    tag(classifier, postgres.address, "public.films", into="undisturbed")
    undisturbed = postgres.rows(f"select {COLUMNS} from undisturbed order by 1")
    assert postgres.rows(PREDICTED) == undisturbed
    assert len(undisturbed) == FILMS


def test_a_user_whom_the_server_does_not_know_is_reported_at_once(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(MmgcsError, match='role "nobody" does not exist'):
        FilmDatabase(postgres.address.replace("films@", "nobody@"), "films", patience=5.0)
    assert "trying again" not in caplog.text


def test_uuids_in_a_schema_are_tagged_once_each_in_any_order(classifier: Classifier, postgres: Postgres) -> None:
    with postgres.connect() as connection:
        connection.execute("create schema archive")
        connection.execute("create table archive.works (uuid uuid primary key, synopsis text, tags jsonb, made date)")
        insert = "insert into archive.works select gen_random_uuid(), 'a ghost', '[1]', '1999-03-31' from"
        connection.execute(f"{insert} generate_series(1, 20)")
        names = {"plot": "synopsis", "year": "made"}
        first = tag(classifier, postgres.address, "works", schema="archive", columns=names)
        connection.execute(f"{insert} generate_series(1, 20)")
        second = tag(classifier, postgres.address, "archive.works", columns=names, where="tags @> '[1]'")
    assert (first.films, second.films, second.unchanged) == (20, 20, 20)
    assert postgres.rows("select count(distinct film_id), min(genres) from archive.mmgcs_predictions") == [
        (40, "Horror")
    ]
    with pytest.raises(UsageError, match=r"the schema archive of .* has no table 'films'; it has mmgcs_predictions"):
        FilmDatabase(postgres.address, "films", schema="archive")


def test_dates_that_python_does_not_know_are_a_warning_of_their_film(
    classifier: Classifier, postgres: Postgres
) -> None:
    with postgres.connect() as connection:
        connection.execute("create table dated (id int primary key, plot text, release_date date, title timestamptz[])")
        ghost, love = "a ghost haunts the house", "love in the old city"
        rows = [(ghost, "infinity", "{-infinity}"), (ghost, "0044-03-15 BC", None), (love, "1999-03-31", None)]
        for number, row in enumerate(rows):
            connection.execute("insert into dated values (%s, %s, %s, %s)", (number, *row))
    assert tag(classifier, postgres.address, "dated", into="dated_genres").films == 3
    assert postgres.rows("select genres, warnings from dated_genres order by film_id") == [
        ("Horror", "ignored invalid year 'infinity'"),
        ("Horror", "ignored invalid year '0044-03-15 BC'"),
        ("Romance", None),
    ]


@pytest.mark.parametrize(
    ("kind", "odd"),
    [
        ("timestamp", ["infinity", "-infinity", "0044-03-15 BC"]),
        ("timestamptz", ["infinity"]),
        ("date", ["infinity"]),
        ("time", ["24:00"]),
        ("interval", ["1 year", "290000 years"]),
        ("numeric", ["NaN"]),
        ("double precision", ["NaN", "infinity"]),
    ],
)
def test_keys_that_python_cannot_represent_are_tagged_once(
    classifier: Classifier, postgres: Postgres, kind: str, odd: list[str]
) -> None:
    numbers = kind in ("numeric", "double precision")
    later = f"n * interval '1 {'day' if kind == 'date' else 'second'}'"
    usual = "n" if numbers else later if kind == "interval" else f"timestamp '1999-03-31' + {later}"
    name = kind.split()[0]
    with postgres.connect() as connection:
        connection.execute(f"create table by_{name} (key {kind} primary key, plot text)")
        connection.execute(f"insert into by_{name} select ({usual})::{kind}, 'a ghost' from generate_series(1, 600) n")
        for value in odd:
            connection.execute(f"insert into by_{name} values (%s, 'a ghost')", (value,))
    total = 600 + len(odd)
    first, second = (tag(classifier, postgres.address, f"by_{name}", into=f"{name}_genres") for _ in range(2))
    assert (first.films, second.films, second.unchanged, second.deleted) == (total, 0, total, 0)
    joined = f"select count(*) from by_{name} f join {name}_genres p on p.film_id = f.key where genres = 'Horror'"
    assert postgres.rows(joined) == [(total,)]


def test_a_table_is_the_same_with_its_default_schema_named(classifier: Classifier, postgres: Postgres) -> None:
    for options in ({}, {"schema": "public"}):
        summary = tag(classifier, postgres.address, "films", into="same_table", where="film_no < 0", **options)
    assert (summary.films, summary.unchanged) == (0, 100)


def test_predictions_can_be_written_to_another_schema(classifier: Classifier, postgres: Postgres) -> None:
    with postgres.connect() as connection:
        connection.execute("create schema analytics")
    options: dict[str, Any] = {"where": "film_no < 0", "into": "analytics.film_genres", "probabilities": True}
    assert tag(classifier, postgres.address, **options).films == 100
    assert tag(classifier, postgres.address, **options).unchanged == 100
    assert postgres.rows("select count(distinct film_id) from analytics.film_genres_view") == [(100,)]


def test_a_reader_of_the_source_cannot_write(postgres: Postgres) -> None:
    with (
        closing(FilmDatabase(postgres.address, "films", into="unused")) as database,
        database._reader.connect() as connection,
        pytest.raises(Exception, match="read-only transaction"),
    ):
        connection.exec_driver_sql("delete from films")


def test_the_command_tags_a_database(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sqlite_films(tmp_path / "films.db", 10)
    call = ["tag", "--from", f"sqlite:///{path}", "--table", "films", "--model", str(tiny_bundle)]
    assert main(call) == 3
    told = capsys.readouterr().err
    assert told.startswith("plot is read from the column 'overview'\n10 films in ")
    assert f"Wrote mmgcs_predictions in sqlite:///{path}" in told
    assert main([*call, "--json"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert (second["films"], second["unchanged"]) == (0, 10)
    assert main([*call, "--overwrite", "--quiet"]) == 3
    assert capsys.readouterr().err == ""
    assert sqlite_rows(path, "select count(*) from mmgcs_predictions") == [(10,)]
