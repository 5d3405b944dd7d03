"""Films of a database are tagged page by page into tables of their own, and a run that broke off goes on."""

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
from collections.abc import Iterator
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
from pathlib import Path
from mmgcs.cli.tag_database import tag_from
def progress(summary):
    print(summary.films, flush=True)
    time.sleep(0.05)
tag_from(sys.argv[1], "films", model=Path(sys.argv[2]), progress=progress)
"""


def rows_of_films(count: int = FILMS) -> list[tuple[Any, ...]]:
    return [(number * 7 - 700, f"Film {number}", PLOTS[number % 5], 1950 + number % 70) for number in range(count)]


@pytest.fixture
def classifier(tiny_bundle: Path) -> Classifier:
    return load(tiny_bundle)


def sqlite_films(path: Path, count: int = FILMS) -> Path:
    with sqlite3.connect(path) as connection:
        connection.execute("create table films (film_no integer primary key, title text, overview text, year integer)")
        connection.executemany("insert into films values (?, ?, ?, ?)", rows_of_films(count))
    connection.close()
    return path


def sqlite_rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def tag(classifier: Classifier, address: str, table: str = "films", **options: Any) -> TagSummary:
    database = FilmDatabase(address, table, **options)
    try:
        return tag_database(classifier, database)
    finally:
        database.close()


PREDICTED = "select film_id, genre, probability, chosen, model from mmgcs_predictions order by 1, 2"
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "tag-a-database.md"
JOINED_IN_SQLITE, JOINED_IN_POSTGRESQL = re.findall(r"```sql\n(.+?)\n```", PAGE.read_text(encoding="utf-8"))
FAILED = "select film_id, error, model from mmgcs_predictions_errors order by 1"


def test_every_film_gets_a_row_a_genre_and_the_source_stays_as_it_was(classifier: Classifier, tmp_path: Path) -> None:
    path = sqlite_films(tmp_path / "films.db", 600)
    summary = tag(classifier, f"sqlite:///{path}")
    rows = sqlite_rows(path, PREDICTED)
    assert len(rows) == 480 * 10
    assert [row[1] for row in rows[:10] if row[3]] == ["Crime", "Thriller"]
    assert {row[4] for row in rows} == {model_name(classifier)}
    assert len(sqlite_rows(path, FAILED)) == 120 == summary.in_error
    assert summary.films == 600
    assert sqlite_rows(path, "select * from films order by 1") == rows_of_films(600)
    columns = [row[1] for row in sqlite_rows(path, "select * from pragma_table_info('mmgcs_predictions')")]
    assert columns == ["film_id", "genre", "probability", "chosen", "model", "tagged_at"]
    joined = sqlite_rows(path, JOINED_IN_SQLITE)
    assert (rows[0][0], model_name(classifier)) == joined[0][:2]
    assert set(joined[0][2].split("|")) == {"Crime", "Thriller"}


def test_a_second_run_tags_only_what_is_new_and_another_model_stands_beside_it(
    classifier: Classifier, tiny_bundle: Path, tmp_path: Path
) -> None:
    path = sqlite_films(tmp_path / "films.db", 10)
    assert tag(classifier, f"sqlite:///{path}").films == 10
    assert tag(classifier, f"sqlite:///{path}").films == 0
    with sqlite3.connect(path) as connection:
        connection.execute("insert into films values (99999, 'New', 'A ghost', 1999)")
    connection.close()
    assert tag(classifier, f"sqlite:///{path}").films == 1
    other = tmp_path / "other"
    shutil.copytree(tiny_bundle, other)
    manifest = other / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text(encoding="utf-8")), indent=7), encoding="utf-8")
    assert tag(load(other), f"sqlite:///{path}").films == 11
    assert sqlite_rows(path, "select count(distinct model), count(*) from mmgcs_predictions") == [(2, 180)]


def test_afresh_replaces_the_models_own_predictions_alone(classifier: Classifier, tmp_path: Path) -> None:
    path = sqlite_films(tmp_path / "films.db", 10)
    tag(classifier, f"sqlite:///{path}")
    before = sqlite_rows(path, PREDICTED)
    database = FilmDatabase(f"sqlite:///{path}", "films")
    assert tag_database(classifier, database, afresh=True).films == 10
    database.close()
    assert sqlite_rows(path, PREDICTED) == before


def kill_half_way(command: list[str]) -> None:
    """Run until two pages are committed, then kill -9."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def test_a_run_that_was_killed_goes_on_to_the_same_table(
    classifier: Classifier, tiny_bundle: Path, tmp_path: Path
) -> None:
    disturbed, whole = sqlite_films(tmp_path / "disturbed.db"), sqlite_films(tmp_path / "whole.db")
    kill_half_way([sys.executable, "-c", SLOW, f"sqlite:///{disturbed}", str(tiny_bundle)])
    (done,) = sqlite_rows(disturbed, "select films from mmgcs_predictions_runs")
    assert 1024 <= done[0] < FILMS
    assert tag(classifier, f"sqlite:///{disturbed}").films == FILMS - done[0]
    tag(classifier, f"sqlite:///{whole}")
    assert sqlite_rows(disturbed, PREDICTED) == sqlite_rows(whole, PREDICTED)
    assert sqlite_rows(disturbed, FAILED) == sqlite_rows(whole, FAILED)


def test_a_locked_database_is_waited_for_and_then_named(classifier: Classifier, tmp_path: Path) -> None:
    path = sqlite_films(tmp_path / "films.db", 10)
    holder = sqlite3.connect(path, isolation_level=None)
    database = FilmDatabase(f"sqlite:///{path}?timeout=0", "films", patience=0.3)
    holder.execute("begin exclusive")
    with pytest.raises(MmgcsError, match=r"films\.db.* \(database is locked\); mend that, then run the same command"):
        tag_database(classifier, database)
    holder.execute("rollback")
    holder.close()
    assert tag_database(classifier, database).films == 10
    database.close()


def test_two_runs_at_once_are_told_apart(classifier: Classifier, tmp_path: Path) -> None:
    path = sqlite_films(tmp_path / "films.db")
    first, second = (FilmDatabase(f"sqlite:///{path}", "films") for _ in range(2))

    def other_comes_between(summary: TagSummary) -> None:
        if summary.films == 512:
            tag_database(classifier, second)

    with pytest.raises(MmgcsError, match="another run writes predictions of tiny@"):
        tag_database(classifier, first, progress=other_comes_between)
    first.close()
    second.close()
    assert sqlite_rows(path, "select count(*) from mmgcs_predictions") == [(FILMS * 8,)]


def test_text_keys_untyped_columns_posters_as_bytes_and_damaged_text_are_read(
    classifier: Classifier, tmp_path: Path
) -> None:
    path = tmp_path / "odd.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table films (id primary key, plot, poster)")
        rows = [("b", "A ghost", None), ("a", None, picture()), ("é", "A ghost", "../out.jpg"), (None, "A ghost", None)]
        connection.executemany("insert into films values (?, ?, ?)", rows)
        connection.execute("insert into films values ('c', cast(x'4120e96e7420ff20' || 'ghost' as text), null)")
    connection.close()
    summary = tag(classifier, f"sqlite:///{path}")
    assert {row[0] for row in sqlite_rows(path, PREDICTED)} == {"a", "b", "c"}
    assert summary.errors["the film has no key"] == 1
    ((film, error, _),) = sqlite_rows(path, FAILED)
    assert film == "é"
    assert "leads out of the posters folder" in error


@pytest.mark.parametrize(
    ("address", "table", "options", "message"),
    [
        ("films.db", "films", {}, "--from is no address of a database"),
        ("mysql://root:secret@localhost/x", "films", {}, "no kind of database 'mysql'; known: postgres"),
        ("sqlite:///none.db", "films", {}, "none.db does not exist; check --from"),
        ("sqlite://", "films", {}, "names no file"),
        ("sqlite:///{db}", "movies", {}, "has no table 'movies'; it has bare, films, keyless"),
        ("sqlite:///{db}", "films", {"key": "isan"}, "--key isan: films has no such column; it has film_no, title"),
        ("sqlite:///{db}", "keyless", {}, "keyless has no primary key; name a column"),
        ("sqlite:///{db}", "bare", {}, "the table bare has no column plot"),
        ("sqlite:///{db}", "films", {"into": "films"}, "films exists and is no table of predictions; give --into"),
        ("sqlite:///{db}", "films", {"posters": Path("nowhere")}, "posters folder nowhere does not exist"),
    ],
)
def test_wrong_calls_are_told_in_one_line(
    address: str, table: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = sqlite_films(tmp_path / "films.db", 1)
    with sqlite3.connect(path) as connection:
        connection.execute("create view keyless as select * from films")
        connection.execute("create table bare (id integer primary key, name text)")
    connection.close()
    with pytest.raises(UsageError, match=message) as raised:
        FilmDatabase(address.format(db=path), table, **options)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_predictions_of_two_tables_are_kept_apart(classifier: Classifier, tmp_path: Path) -> None:
    path = sqlite_films(tmp_path / "films.db", 5)
    with sqlite3.connect(path) as connection:
        connection.execute("create view old as select * from films where year < 1952")
    connection.close()
    tag(classifier, f"sqlite:///{path}")
    with pytest.raises(UsageError, match="holds predictions of the table films; give --into another name"):
        tag(classifier, f"sqlite:///{path}", "old", key="film_no")
    assert tag(classifier, f"sqlite:///{path}", "old", key="film_no", into="old_genres").films == 2


class Postgres:
    """A real server of our own on a temporary folder, run by an unprivileged user where we are root."""

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

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(host=str(self.folder), user="films", dbname="postgres") as connection:
            return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("no PostgreSQL server is installed (Debian's package postgresql)")
    if os.getuid() == 0 and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and runuser is not installed")
    # A socket's path may have a hundred letters, and another user must reach it: pytest's own folder serves neither.
    name = hashlib.sha256(str(tmp_path_factory.getbasetemp()).encode()).hexdigest()[:12]
    folder = Path("/tmp") / f"mmgcs-pg-{name}"
    folder.mkdir(mode=0o755)
    server = Postgres(folder, programs[-1].parent)
    with psycopg.connect(host=str(folder), user="films", dbname="postgres") as connection:
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


def test_a_server_that_is_stopped_for_a_moment_is_waited_for(classifier: Classifier, postgres: Postgres) -> None:
    database = FilmDatabase(postgres.address, "films", into="waited")

    def restart(summary: TagSummary) -> None:
        if summary.films == 1024:
            postgres.stop()
            postgres.start()

    summary = tag_database(classifier, database, progress=restart)
    database.close()
    assert (summary.films, summary.in_error) == (FILMS, FILMS // 5)
    assert postgres.rows("select count(*), count(distinct film_id) from waited") == [(FILMS * 8, FILMS * 4 // 5)]


def test_a_server_that_stays_away_ends_the_run_in_one_line_and_a_rerun_completes(
    classifier: Classifier, postgres: Postgres
) -> None:
    database = FilmDatabase(postgres.address, "films", patience=0.5)

    def stop(summary: TagSummary) -> None:
        if summary.films == 1024:
            postgres.stop()

    with pytest.raises(MmgcsError, match=r"^postgresql\+psycopg://films@.* went away \(.*\); mend that") as raised:
        tag_database(classifier, database, progress=stop)
    database.close()
    assert "\n" not in str(raised.value)
    postgres.start()
    assert postgres.rows("select films from mmgcs_predictions_runs") == [(1024,)]
    assert tag(classifier, postgres.address).films == FILMS - 1024
    tag(classifier, postgres.address, "public.films", into="undisturbed")
    undisturbed = postgres.rows("select film_id, genre, probability, chosen from undisturbed order by 1, 2")
    assert (
        postgres.rows("select film_id, genre, probability, chosen from mmgcs_predictions order by 1, 2") == undisturbed
    )
    assert len(undisturbed) == FILMS * 8
    joined = {row[0]: set(row[2].split("|")) for row in postgres.rows(JOINED_IN_POSTGRESQL)}
    assert joined == {
        film: {row[1] for row in undisturbed if row[0] == film and row[3]}
        for film in {row[0] for row in undisturbed if row[3]}
    }


def test_a_killed_run_against_postgresql_goes_on(classifier: Classifier, postgres: Postgres, tiny_bundle: Path) -> None:
    with psycopg.connect(host=str(postgres.folder), user="films", dbname="postgres", autocommit=True) as connection:
        connection.execute("drop table if exists mmgcs_predictions, mmgcs_predictions_errors, mmgcs_predictions_runs")
    kill_half_way([sys.executable, "-c", SLOW, postgres.address, str(tiny_bundle)])
    assert 1024 <= postgres.rows("select films from mmgcs_predictions_runs")[0][0] < FILMS
    tag(classifier, postgres.address)
    assert postgres.rows("select count(*), count(distinct film_id) from mmgcs_predictions") == [(24000, 2400)]
    assert postgres.rows("select count(*) from mmgcs_predictions_errors") == [(600,)]
    assert postgres.rows("select sum(film_no), count(*) from films") == [(sum(row[0] for row in rows_of_films()), 3000)]


def test_a_reader_of_the_source_cannot_write(postgres: Postgres) -> None:
    database = FilmDatabase(postgres.address, "films", into="unused")
    with database._reader.connect() as connection, pytest.raises(Exception, match="read-only transaction"):
        connection.exec_driver_sql("delete from films")
    database.close()


def test_the_command_tags_a_database(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sqlite_films(tmp_path / "films.db", 10)
    call = ["tag", "--from", f"sqlite:///{path}", "--table", "films", "--model", str(tiny_bundle)]
    assert main(call) == 3
    told = capsys.readouterr().err
    assert told.startswith("10 films in ")
    assert f"out written: mmgcs_predictions in sqlite:///{path}" in told
    assert main([*call, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["films"] == 0
    assert main([*call, "--overwrite", "--quiet"]) == 3
    assert sqlite_rows(path, "select count(*) from mmgcs_predictions") == [(80,)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "sqlite:///films.db"], "--from needs --table"),
        (["--from", "sqlite:///films.db", "--table", "films", "--out", "x.csv"], "leave out --out"),
        (["films.csv", "--from", "sqlite:///films.db", "--table", "films"], "leave out FILMS"),
        (["--from", "sqlite:///films.db", "--table", "films", "--resume"], "leave out --resume"),
        (["--from", "sqlite:///films.db", "--table", "films", "--delimiter", ";"], "leave out --delimiter"),
        (["--from", "sqlite:///films.db", "--table", "films", "--format", "csv"], "--format says what standard input"),
        (["--from", "sqlite:///films.db", "--table", "films", "--only-missing"], "--from knows no --only-missing"),
        ([], "give FILMS and --out; or --from and --table"),
    ],
)
def test_the_command_refuses_what_does_not_go_together(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tag", *arguments]) == 2
    assert message in capsys.readouterr().err
