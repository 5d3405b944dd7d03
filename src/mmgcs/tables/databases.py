"""Tag films in a database table; the predictions go to tables of their own.

Works with SQLite, PostgreSQL and other databases that SQLAlchemy has a driver for. Films are read in pages by key
(keyset pagination: `key > last … order by key limit n`), so a page costs the same at the end of a table as at its
start, and no transaction stays open between pages. The table of films is only read. Each prediction is stored with a
hash of the film's plot, title and poster: a film is tagged if it has no prediction by this model yet, or if its hash
changed. The predictions of a chunk replace older ones in one transaction, so a run can be killed and repeated at any
time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
import tenacity
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchTableError, OperationalError, SAWarning
from sqlalchemy.types import UserDefinedType

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.files import decode_text
from mmgcs.film import Film, Prediction
from mmgcs.tables.films import CHUNK
from mmgcs.tables.rows import RowReader, check_sources, list_columns, notices_of, sources_of
from mmgcs.tables.source import Row, without_surrogates

LOG = logging.getLogger(__name__)

_SAFE = (sa.String, sa.Integer, sa.Boolean, sa.Uuid, sa.LargeBinary, sa.JSON, sa.types.NullType)
"""Types with a Python value for each of their values."""

T = TypeVar("T")


class FilmDatabase:
    """A table of films in a database.

    Attributes:
        place: the address without its password, for messages.
        source: the name of the table of films.
        key: the column that identifies and orders the films.
        into: the table of predictions, with its schema unless that is the default one.
        notices: messages to the user about the columns that are read.
        unchanged: the number of films that `chunks` skipped because they already have a prediction.
    """

    def __init__(
        self,
        address: str,
        table: str,
        *,
        schema: str | None = None,
        key: str | None = None,
        columns: Mapping[str, str] | None = None,
        where: str | None = None,
        into: str | None = None,
        probabilities: bool = False,
        posters: Path | None = None,
        patience: float = 30.0,
    ) -> None:
        """Connect, check the table of films, and create the tables of predictions if they are missing.

        Args:
            address: such as `sqlite:///films.db` or `postgresql://user@host/database`.
            table: the table or view of films, with or without its schema.
            schema: the schema of the table; by default the database's default schema.
            key: a column that is unique and never null; by default, the primary key.
            columns: film field to the column it is read from; `id` means the key.
            where: an SQL condition that selects films.
            into: the table of predictions, with or without its schema; by default `mmgcs_predictions` in the schema of
                the table of films. `<into>_runs` is also created.
            probabilities: True to also write one row per film and genre, to `<into>_probabilities`.
            posters: the folder of posters; by default the current one.
            patience: seconds to keep trying if the database is locked or cannot be reached.

        Raises:
            UsageError: the address, a table, a column or the condition is wrong.
            MmgcsError: the database cannot be reached, or refuses.
        """
        self._reader, self._writer = _connect(address)
        self.place = self._writer.url.render_as_string(hide_password=True)
        self._patience = patience
        self.unchanged = 0
        if posters is not None and not posters.is_dir():
            raise UsageError(f"the posters folder {posters} does not exist; check --posters")
        try:
            self._films = self._retry(self._reader.connect, lambda connection: self._reflect(connection, table, schema))
            self.source = self._films.fullname
            named = columns or {}
            check_sources(self._films.columns.keys(), named, self.source)
            self._key = self._key_column(key or named.get("id"))
            self.key = self._key.name
            self._fields = self._field_columns(named)
            self.notices = notices_of({field: column.name for field, column in self._fields.items()}, named)
            self._rows = RowReader(("id", *self._fields), posters or Path.cwd())
            self._where: sa.ColumnElement[bool] = sa.true()
            if where is not None:
                self._where = sa.literal_column(f"({where})", sa.Boolean)
                try:
                    self._read(sa.select(self._key).where(self._where).limit(1))
                except MmgcsError as error:
                    raise UsageError(f"--where {where!r} failed ({_reason(error.__cause__)})") from error
            self._create_targets(into or "mmgcs_predictions", probabilities)
            self.into = self._predictions.fullname
        except BaseException:
            self.close()
            raise

    def _reflect(self, connection: sa.Connection, name: str, schema: str | None) -> sa.Table:
        """Read the columns of a table or view. Raises UsageError if it does not exist."""

        def as_declared(inspector: sa.Inspector, table: sa.Table, column: Any) -> None:
            # SQLite stores values of any type in any column. Elsewhere, Python cannot represent all values of dates,
            # intervals and numbers, such as PostgreSQL's `infinity` and NaN, so these are read as text.
            kind, sqlite = column["type"], inspector.dialect.name == "sqlite"
            values = kind.item_type if isinstance(kind, sa.ARRAY) else kind
            if sqlite or not isinstance(values, _SAFE):
                declared = "BLOB" if isinstance(kind, sa.types.NullType) else kind.compile(inspector.dialect)
                column["type"] = _AsDeclared(declared, not sqlite)

        inspector = sa.inspect(connection)
        if schema is None and "." in name and not inspector.has_table(name):
            schema, _, name = name.partition(".")
        if schema == inspector.default_schema_name:  # the same table, whether its schema is named or not
            schema = None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SAWarning)  # about types that SQLAlchemy does not know
                return sa.Table(
                    name,
                    sa.MetaData(),
                    schema=schema,
                    autoload_with=connection,
                    resolve_fks=False,
                    listeners=[("column_reflect", as_declared)],
                )
        except NoSuchTableError:
            known = sorted([*inspector.get_table_names(schema), *inspector.get_view_names(schema)])
            where = f"the schema {schema or inspector.default_schema_name} of {self.place}"
            raise UsageError(f"{where} has no table {name!r}; it has {list_columns(known) or 'none'}") from None

    def _key_column(self, name: str | None) -> sa.Column[Any]:
        columns = self._films.columns
        if name is not None:
            found = sources_of(columns.keys(), named={"id": name}).get("id")
            if found is None:
                has = list_columns(columns.keys())
                raise UsageError(f"--key {name}: {self.source} has no such column; it has {has}")
            return columns[found]
        keys = list(self._films.primary_key.columns)
        if len(keys) != 1:
            has = "no primary key" if not keys else f"a primary key of {len(keys)} columns"
            raise UsageError(f"{self.source} has {has}; name a column that is unique and never null with --key")
        return keys[0]

    def _field_columns(self, named: Mapping[str, str]) -> dict[str, sa.Column[Any]]:
        """Return the columns to read: film field to column, and identifiers under their own names."""
        columns = self._films.columns.keys()
        read = ("title", "year", "plot", "genres", "poster")
        found = {field: name for field, name in sources_of(columns, named=named).items() if field in read}
        # What `--enrich` looks films up by.
        found |= {name.casefold(): name for name in columns if name.casefold() in ("imdb_id", "tmdb_id")}
        return {field: self._films.c[name] for field, name in found.items()}

    def _create_targets(self, into: str, probabilities: bool) -> None:
        """Define the tables of predictions, and create the missing ones."""
        kind = self._key.type
        schema, _, into = into.rpartition(".")
        if isinstance(kind, sa.types.NullType | sa.JSON | sa.ARRAY):
            raise UsageError(f"the type of {self.source}.{self.key} is not supported as a key; name another with --key")
        meta = sa.MetaData(schema=schema or self._films.schema)
        self._predictions = sa.Table(
            into,
            meta,
            sa.Column("film_id", kind, primary_key=True),
            sa.Column("genres", sa.Text),
            sa.Column("confidence", sa.Double),
            sa.Column("sure", sa.Boolean),
            sa.Column("error", sa.Text),
            sa.Column("warnings", sa.Text),
            sa.Column("input_hash", sa.String(64), nullable=False),
            sa.Column("model", sa.String(200), primary_key=True),
            sa.Column("tagged_at", sa.DateTime(timezone=True), nullable=False),
        )
        self._runs = sa.Table(
            f"{into}_runs",
            meta,
            sa.Column("model", sa.String(200), primary_key=True),
            sa.Column("source", sa.Text, nullable=False),
            sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        )
        self._probabilities = by_genre = None
        if probabilities:
            self._probabilities = by_genre = sa.Table(
                f"{into}_probabilities",
                meta,
                sa.Column("film_id", kind, primary_key=True),
                sa.Column("model", sa.String(200), primary_key=True),
                sa.Column("genre", sa.String(100), primary_key=True),
                sa.Column("probability", sa.Double, nullable=False),
                sa.Column("chosen", sa.Boolean, nullable=False),
            )

        def create(connection: sa.Connection) -> None:
            inspector = sa.inspect(connection)
            for ours in meta.tables.values():
                if inspector.has_table(ours.name, schema=ours.schema):
                    existing = inspector.get_columns(ours.name, schema=ours.schema)
                    if {column["name"] for column in existing} != set(ours.columns.keys()):
                        raise UsageError(
                            f"{ours.fullname} exists, but its columns are not those of this version of mmgcs; "
                            "give --into another name"
                        )
            meta.create_all(connection)
            if by_genre is not None and f"{into}_view" not in inspector.get_view_names(meta.schema):
                view = sa.Table(f"{into}_view", sa.MetaData(), schema=meta.schema)
                name, rows, genres = map(
                    connection.dialect.identifier_preparer.format_table, (view, self._predictions, by_genre)
                )
                select = f"SELECT p.*, g.genre, g.probability, g.chosen FROM {rows} p"  # noqa: S608  the names are quoted
                join = f"LEFT JOIN {genres} g ON g.film_id = p.film_id AND g.model = p.model"
                connection.exec_driver_sql(f"CREATE VIEW {name} AS {select} {join}")

        self._retry(self._writer.begin, create)

    def begin(self, model: str, *, overwrite: bool = False) -> None:
        """Start a run of a model. With `overwrite`, its predictions are deleted first.

        Raises:
            UsageError: the tables of predictions belong to another table of films.
        """
        runs = self._runs
        delete = [self._predictions, self._probabilities, runs] if overwrite else [runs]

        def work(connection: sa.Connection) -> None:
            other = connection.execute(sa.select(runs.c.source).where(runs.c.source != self.source)).scalar()
            if other is not None:
                raise UsageError(
                    f"{self._predictions.fullname} holds predictions for {other}; give --into another name"
                )
            for table in delete:
                if table is not None:
                    connection.execute(sa.delete(table).where(table.c.model == model))
            connection.execute(sa.insert(runs).values(model=model, source=self.source, started_at=datetime.now(UTC)))

        self._retry(self._writer.begin, work)

    def chunks(self, model: str, *, retry_errors: bool = False) -> Iterator[list[Film]]:
        """Yield the films that the model has not tagged yet, in the order of their keys.

        A film's `record` also holds `film_id`, the value of its key, and `input_hash`, which `save` stores.

        Args:
            model: the model's name.
            retry_errors: True to also yield films whose prediction was an error.

        Raises:
            MmgcsError: the database cannot be reached any longer, or the key is not unique.
        """
        chunk: list[Film] = []
        for films in self._pages():
            known = self._stored(model, [film.record["film_id"] for film in films], retry_errors)
            for film in films:
                if known.get(film.record["film_id"]) == film.record["input_hash"]:
                    self.unchanged += 1
                    continue
                chunk.append(film)
                if len(chunk) == CHUNK:
                    yield chunk
                    chunk = []
        if chunk:
            yield chunk

    def _pages(self) -> Iterator[list[Film]]:
        after = None
        while True:
            start = self._key.is_not(None) if after is None else self._key > _as_sql(after)
            query = sa.select(self._key, *self._fields.values()).where(start, self._where)
            rows = self._read(query.order_by(self._key).limit(CHUNK + 1))
            keys = [row[0] for row in rows]
            if len(set(keys)) < len(keys) or (keys and keys[0] == after):
                raise MmgcsError(
                    f"the key {self.key} of {self.source} is not unique near {str(keys[0])[:80]!r}; "
                    "name another column with --key"
                )
            if rows:
                yield [self._film(row) for row in rows[:CHUNK]]
            if len(rows) <= CHUNK:
                return
            after = keys[CHUNK - 1]

    def _film(self, row: Sequence[Any]) -> Film:
        key, *others = row
        name = key.hex() if isinstance(key, bytes) else without_surrogates(str(key))
        values: dict[str, Any] = {"id": name}
        for column, value in zip(self._fields, others, strict=True):
            data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
            text = isinstance(value, str) or (isinstance(value, bytes) and column != "poster")
            values[column] = decode_text(data) if text else value
        film = self._rows.film(Row(values, place=f"{self.key} {name}"), 0)
        return replace(film, record={**values, "film_id": key, "input_hash": input_hash(film)})

    def _stored(self, model: str, keys: list[Any], retry_errors: bool) -> dict[Any, str]:
        """Return the input hash of each film in `keys` that needs no new prediction."""
        table, genres = self._predictions, self._probabilities
        query = sa.select(table.c.film_id, table.c.input_hash)
        query = query.where(table.c.model == model, table.c.film_id.in_([_as_sql(key) for key in keys]))
        if retry_errors:
            query = query.where(table.c.error.is_(None))
        if genres is not None:
            same = sa.and_(genres.c.film_id == table.c.film_id, genres.c.model == model)
            query = query.where(sa.or_(table.c.error.is_not(None), sa.exists().where(same)))
        return {row[0]: row[1] for row in self._read(query)}

    def save(self, model: str, films: Sequence[Film], predictions: Sequence[Prediction]) -> None:
        """Write the predictions of a chunk in one transaction, replacing older ones.

        Raises:
            MmgcsError: the database cannot be reached any longer, or refuses.
        """
        now, rows, genres = datetime.now(UTC), [], []
        for film, prediction in zip(films, predictions, strict=True):
            failed = prediction.error is not None
            film_id = {"film_id": _as_sql(film.record["film_id"]), "model": model}
            rows.append(
                {
                    **film_id,
                    "genres": "|".join(prediction.genres),
                    "confidence": None if failed else prediction.confidence,
                    "sure": None if failed else prediction.sure,
                    "error": prediction.error,
                    "warnings": " | ".join(prediction.warnings) or None,
                    "input_hash": film.record["input_hash"],
                    "tagged_at": now,
                }
            )
            for genre, probability in prediction.probabilities.items():
                chosen = genre in prediction.genres
                genres.append({**film_id, "genre": genre, "probability": probability, "chosen": chosen})
        keys = [row["film_id"] for row in rows]

        def work(connection: sa.Connection) -> None:
            for table, values in ((self._predictions, rows), (self._probabilities, genres)):
                if table is not None:
                    connection.execute(sa.delete(table).where(table.c.model == model, table.c.film_id.in_(keys)))
                    for row in values:
                        if isinstance(row["film_id"], sa.ColumnElement):
                            connection.execute(sa.insert(table).inline().values(row))
                    usual = [row for row in values if not isinstance(row["film_id"], sa.ColumnElement)]
                    if usual:
                        connection.execute(sa.insert(table), usual)

        self._retry(self._writer.begin, work)

    def without_key(self) -> int:
        """Return the number of films that cannot be tagged because their key is null, which SQLite allows."""
        query = sa.select(sa.func.count()).select_from(self._films).where(self._key.is_(None), self._where)
        return int(self._read(query)[0][0])

    def deleted(self, model: str) -> int:
        """Return the number of films that this model tagged but that are no longer in the table of films."""
        predictions = self._predictions
        there = sa.exists().where(self._key == predictions.c.film_id)
        query = sa.select(sa.func.count()).select_from(predictions).where(predictions.c.model == model, ~there)
        return int(self._read(query)[0][0])

    def close(self) -> None:
        """Close every connection."""
        self._reader.dispose()
        self._writer.dispose()

    def _read(self, query: sa.Select[Any]) -> Sequence[Sequence[Any]]:
        return self._retry(self._reader.connect, lambda connection: connection.execute(query).all())

    def _retry(
        self, connect: Callable[[], AbstractContextManager[sa.Connection]], work: Callable[[sa.Connection], T]
    ) -> T:
        """Call `work` with a connection; retry up to `patience` seconds while the database is locked or unreachable."""

        def once() -> T:
            with connect() as connection:
                return work(connection)

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_temporary),
            stop=tenacity.stop_after_delay(self._patience),
            wait=tenacity.wait_exponential(0.1, max=5),
            before_sleep=self._before_retry,
            reraise=True,
        )
        try:
            return attempts(once)
        except DBAPIError as error:
            raise MmgcsError(
                f"{self.place} failed or cannot be reached ({_reason(error)}); fix that, then run the same command "
                "again: predictions already written are kept"
            ) from error

    def _before_retry(self, attempt: tenacity.RetryCallState) -> None:
        self.close()
        if attempt.attempt_number == 4:  # after about a second
            reason = _reason(attempt.outcome.exception() if attempt.outcome else None)
            LOG.warning("%s: %s; trying again for up to %.0f s", self.place, reason, self._patience)


class _AsDeclared(UserDefinedType[Any]):
    """A type as declared; values are read and written without conversion, or read as text."""

    cache_ok = True

    def __init__(self, name: str, as_text: bool) -> None:  # positional, so that SQLAlchemy copies both
        self.name = name
        self.as_text = as_text

    def get_col_spec(self, **_: Any) -> str:
        return self.name

    def column_expression(self, colexpr: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.cast(colexpr, sa.Text) if self.as_text else colexpr


def _reason(error: BaseException | None) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0].rstrip(".")[:300]


def _connect(address: str) -> tuple[sa.Engine, sa.Engine]:
    """Return an engine for reading (SQLite and PostgreSQL refuse writes by it), and one for writing.

    Raises:
        UsageError: the address is not that of a database.
    """
    try:
        url = sa.make_url(address)
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        kind = url.get_backend_name()
        options: dict[str, Any] = {"connect_args": {"connect_timeout": 10}} if kind == "postgresql" else {}
        writer = sa.create_engine(url, pool_pre_ping=True, **options)
    except (ArgumentError, ValueError):
        raise UsageError(
            "--from is not the address of a database that SQLAlchemy knows; write it like sqlite:///films.db or "
            "postgresql://user@host/database"
        ) from None
    except ModuleNotFoundError as error:  # the driver's package may have another name
        raise UsageError(f"{kind} needs the Python driver {error.name}, which is not installed") from None
    if kind != "sqlite":
        return writer.execution_options(postgresql_readonly=True), writer
    if not Path(url.database or "").is_file():
        raise UsageError(f"the database {url.database or address} does not exist; check --from")
    reader = sa.create_engine(url)
    event.listen(reader, "connect", _prepare_to_read)
    return reader, writer


def _prepare_to_read(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA query_only = ON")
    # SQLite accepts any bytes as text.
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")


def _as_sql(key: Any) -> Any:
    """Return a key as a value of a query. Text that is not UTF-8 can only be passed as bytes, and cast."""
    if isinstance(key, str) and without_surrogates(key) != key:
        return sa.cast(sa.literal(key.encode("utf-8", "surrogateescape"), sa.LargeBinary), sa.Text)
    return key


def _is_temporary(error: BaseException) -> bool:
    """Return True for errors that a retry may fix: a lock, an unreachable server, or a concurrent run."""
    if isinstance(error, DBAPIError) and isinstance(error.orig, sqlite3.Error):
        return "locked" in str(error.orig) or isinstance(error, IntegrityError)
    if any(text in str(error) for text in ("authentication failed", "does not exist")):  # a wrong password or name
        return False
    away = isinstance(error, DBAPIError) and error.connection_invalidated
    return away or isinstance(error, IntegrityError | OperationalError)  # another run wrote the same film first


def input_hash(film: Film) -> str:
    """Return a hash of a film's inputs: its title, its plot, and its poster's bytes, or path and size."""
    poster: str | None = None
    if isinstance(film.poster, Path):
        size = film.poster.stat().st_size if film.poster.is_file() else None
        poster = f"{film.poster} {size}"
    elif film.poster is not None:
        poster = hashlib.sha256(film.poster).hexdigest()
    inputs = [film.title, film.plot, poster, film.problem]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:32]
