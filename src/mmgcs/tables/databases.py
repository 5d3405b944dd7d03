"""Films of a table in a database, and their predictions in tables of their own next to it.

SQLite, PostgreSQL, and whatever else SQLAlchemy has a driver for. Films are read in pages by key (keyset pagination:
`key > last … order by key limit n`), so a page costs the same at the end of a table as at its start, and no transaction
stays open between pages. The table of films is only read. Every prediction is stored with a hash of the film's plot,
title and poster: a film is tagged if it has no prediction of this model yet, or if its hash changed. A chunk's
predictions are written in one transaction that replaces older ones, so a run can be killed at any time and repeated.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    NoSuchTableError,
    OperationalError,
    SAWarning,
)
from sqlalchemy.types import UserDefinedType

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.film import Film, Prediction
from mmgcs.tables.films import CHUNK
from mmgcs.tables.rows import RowReader, list_columns, sources_of
from mmgcs.tables.source import Row

PREDICTIONS = "mmgcs_predictions"
"""The table of predictions, unless another is named."""

FIELDS = ("title", "year", "plot", "genres", "poster")
"""The fields of a film that are read, if the table has them."""
IDENTIFIERS = ("imdb_id", "tmdb_id")
"""Columns that are read too: `--enrich` looks films up by them."""

T = TypeVar("T")


@dataclass(slots=True)
class DatabaseChunk:
    """Films to tag, with the value of the key column and the input hash of each."""

    keys: list[Any] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    films: list[Film] = field(default_factory=list)


class FilmDatabase:
    """A table of films in a database.

    Attributes:
        place: the address without its password, for messages.
        source: the name of the table of films.
        key: the column that films are identified and ordered by.
        into: the table of predictions.
        unchanged: films that `chunks` has passed over, because they have a prediction already.
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
        """Connect and check the tables. Creates the tables of predictions if they are missing.

        Args:
            address: such as `sqlite:///films.db` or `postgresql://user@host/database`.
            table: the table or view of films, with its schema or without.
            schema: the schema of the table, if it is not the default one.
            key: a column that is unique and never null; by default the primary key.
            columns: a film's field to the column it is read from; `id` names the key.
            where: a condition in SQL that films must meet.
            into: the table of predictions, by default `mmgcs_predictions`; `<into>_runs` is created with it.
            probabilities: True to also write one row per film and genre, to `<into>_probabilities`.
            posters: the folder of posters; by default the current one.
            patience: seconds to wait for a database that went away or is locked.

        Raises:
            UsageError: the address, a table, a column or the condition is wrong.
            MmgcsError: the database cannot be reached, or refuses.
        """
        url = _parse_address(address)
        self.place = url.render_as_string(hide_password=True)
        self._patience = patience
        self.into = into or PREDICTIONS
        self.unchanged = 0
        if posters is not None and not posters.is_dir():
            raise UsageError(f"the posters folder {posters} does not exist; check --posters")
        self._reader, self._writer = _make_engines(url)
        try:
            self._films = self._retry(lambda: self._reflect(table, schema))
            self.source = self._films.fullname
            names = dict(columns or {})
            self._key = self._key_column(key or names.pop("id", None))
            self.key = self._key.name
            self._fields = self._field_columns(names)
            self._rows = RowReader(("id", *self._fields), posters or Path.cwd())
            self._where: sa.ColumnElement[bool] = sa.true()
            if where is not None:
                self._where = sa.literal_column(f"({where})", sa.Boolean)
                try:
                    self._read(sa.select(self._key).where(self._where).limit(1))
                except MmgcsError as error:
                    raise UsageError(f"--where {where!r} failed: {error}") from error
            self._create_targets(self.into, probabilities)
        except BaseException:
            self.close()
            raise

    def _reflect(self, name: str, schema: str | None) -> sa.Table:
        """Read the columns of a table or view. Raises UsageError if it does not exist."""

        def as_declared(inspector: sa.Inspector, table: sa.Table, column: Any) -> None:
            # SQLite stores any value in any column: none may be converted by its declared type.
            if inspector.dialect.name == "sqlite":
                column["type"] = _Declared(declared.get(column["name"]) or "BLOB")

        with self._reader.connect() as connection:
            inspector = sa.inspect(connection)
            if schema is None and "." in name and not inspector.has_table(name):
                schema, _, name = name.partition(".")
            declared: dict[str, str] = {}
            if connection.dialect.name == "sqlite":
                quote = connection.dialect.identifier_preparer.quote
                prefix = f"{quote(schema)}." if schema else ""
                found = connection.exec_driver_sql(f"PRAGMA {prefix}table_info({quote(name)})")
                declared = {row[1]: row[2] for row in found}
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", SAWarning)  # a type it does not know is read as it comes
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
                raise UsageError(f"{where} has no table {name!r}; it has {list_columns(known)}") from None

    def _column(self, option: str, name: str) -> sa.Column[Any]:
        """Return a column by its name, in any case. Raises UsageError if there is none."""
        columns = self._films.columns
        folded = {column.name.casefold(): column for column in reversed(list(columns))}
        column = columns.get(name, folded.get(name.casefold()))
        if column is None:
            raise UsageError(f"{option}: {self.source} has no such column; it has {list_columns(columns.keys())}")
        return column

    def _key_column(self, name: str | None) -> sa.Column[Any]:
        if name is not None:
            return self._column(f"--key {name}", name)
        keys = list(self._films.primary_key.columns)
        if len(keys) != 1:
            has = "no primary key" if not keys else f"a primary key of {len(keys)} columns"
            raise UsageError(f"{self.source} has {has}; name a column that is unique and never null with --key")
        return keys[0]

    def _field_columns(self, names: Mapping[str, str]) -> dict[str, sa.Column[Any]]:
        """Return the columns to read, by the film's field (or by their own name, for identifiers)."""
        others = [column.name for column in self._films.columns if column.name != self.key]
        found = {name: column for name, column in sources_of(others).items() if name in FIELDS} | dict(names)
        fields = {name: self._column(f"--columns {name}={column}", column) for name, column in found.items()}
        if "plot" not in fields and "poster" not in fields:
            raise UsageError(
                f"{self.source} has no column of plots or posters; name one with --columns plot=COLUMN; "
                f"it has {list_columns(others)}"
            )
        return fields | {name.casefold(): self._films.c[name] for name in others if name.casefold() in IDENTIFIERS}

    def _create_targets(self, into: str, probabilities: bool) -> None:
        """Define the tables of predictions, and create missing ones."""
        meta, schema, kind = sa.MetaData(), self._films.schema, self._key.type
        if isinstance(kind, sa.types.NullType):
            raise UsageError(f"the type of {self.source}.{self.key} is not supported as a key; name another with --key")

        def film_id() -> sa.Column[Any]:
            return sa.Column("film_id", kind, primary_key=True, nullable=False, autoincrement=False)

        def model() -> sa.Column[Any]:
            return sa.Column("model", sa.String(200), primary_key=True, nullable=False)

        self._predictions = predictions = sa.Table(
            into,
            meta,
            film_id(),
            sa.Column("genres", sa.Text),
            sa.Column("confidence", sa.Double),
            sa.Column("sure", sa.Boolean),
            sa.Column("error", sa.Text),
            sa.Column("warnings", sa.Text),
            sa.Column("input_hash", sa.String(64), nullable=False),
            model(),
            sa.Column("tagged_at", sa.DateTime(timezone=True), nullable=False),
            schema=schema,
        )
        self._runs = sa.Table(
            f"{into}_runs",
            meta,
            model(),
            sa.Column("source", sa.Text, nullable=False),
            sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
            schema=schema,
        )
        self._probabilities = by_genre = None
        if probabilities:
            self._probabilities = by_genre = sa.Table(
                f"{into}_probabilities",
                meta,
                film_id(),
                model(),
                sa.Column("genre", sa.String(100), primary_key=True, nullable=False),
                sa.Column("probability", sa.Double, nullable=False),
                sa.Column("chosen", sa.Boolean, nullable=False),
                schema=schema,
            )

        def create(connection: sa.Connection) -> None:
            inspector = sa.inspect(connection)
            for ours in meta.tables.values():
                if not inspector.has_table(ours.name, schema=schema):
                    continue
                there = {column["name"] for column in inspector.get_columns(ours.name, schema=schema)}
                if there != {column.name for column in ours.columns}:
                    raise UsageError(
                        f"{ours.fullname} exists, but its columns are not those of this version of mmgcs; "
                        "drop it, or give --into another name"
                    )
            meta.create_all(connection)
            view = sa.Table(f"{into}_view", sa.MetaData(), schema=schema)
            if by_genre is not None and view.name not in inspector.get_view_names(schema):
                name = connection.dialect.identifier_preparer.format_table(view)
                same = (predictions.c.film_id == by_genre.c.film_id, predictions.c.model == by_genre.c.model)
                joined = sa.select(predictions, by_genre.c.genre, by_genre.c.probability, by_genre.c.chosen)
                joined = joined.join_from(predictions, by_genre, sa.and_(*same), isouter=True)
                connection.exec_driver_sql(f"CREATE VIEW {name} AS {joined.compile(connection)}")

        self._write(create)

    def begin(self, model: str, *, overwrite: bool = False) -> None:
        """Start a run of a model. With `overwrite` its predictions are deleted first.

        Raises:
            UsageError: the tables of predictions belong to another table of films.
        """
        runs = self._runs
        tables = [self._predictions, self._probabilities] if overwrite else []

        def work(connection: sa.Connection) -> None:
            other = connection.execute(sa.select(runs.c.source).where(runs.c.source != self.source)).scalar()
            if other is not None:
                raise UsageError(
                    f"{self._predictions.fullname} holds predictions for {other}; give --into another name"
                )
            for table in [*tables, runs]:
                if table is not None:
                    connection.execute(sa.delete(table).where(table.c.model == model))
            run = {"model": model, "source": self.source, "started_at": datetime.now(UTC)}
            connection.execute(sa.insert(runs), [run])

        self._write(work)

    def chunks(self, model: str, *, retry_errors: bool = False, size: int = CHUNK) -> Iterator[DatabaseChunk]:
        """Yield the films that the model has yet to tag, in the order of their keys.

        Args:
            model: the model's name.
            retry_errors: True to also yield films whose prediction was an error.
            size: films per chunk.

        Raises:
            MmgcsError: the database stays away, or the key is not unique.
        """
        chunk = DatabaseChunk()
        for keys, films in self._pages(size):
            known = self._stored(model, keys, retry_errors)
            for key, film in zip(keys, films, strict=True):
                hashed = input_hash(film)
                if known.get(key) == hashed:
                    self.unchanged += 1
                    continue
                chunk.keys.append(key)
                chunk.hashes.append(hashed)
                chunk.films.append(film)
                if len(chunk.films) == size:
                    yield chunk
                    chunk = DatabaseChunk()
        if chunk.films:
            yield chunk

    def _pages(self, size: int) -> Iterator[tuple[list[Any], list[Film]]]:
        after, number = None, 0
        while True:
            start = self._key.is_not(None) if after is None else self._key > after
            query = sa.select(self._key, *self._fields.values()).where(start, self._where)
            rows = self._read(query.order_by(self._key).limit(size + 1))
            keys = [_as_read(row[0]) for row in rows]
            if len(set(keys)) < len(keys) or (keys and keys[0] == after):
                raise MmgcsError(
                    f"the key {self.key} of {self.source} is not unique, or not UTF-8, near {str(keys[0])[:80]!r}; "
                    f"name another column with --key"
                )
            films = [self._film(row, number + place) for place, row in enumerate(rows[:size], 1)]
            if films:
                yield keys[:size], films
            if len(rows) <= size:
                return
            number += size
            after = rows[size - 1][0]

    def _stored(self, model: str, keys: list[Any], retry_errors: bool) -> dict[Any, str]:
        """Return the input hashes of the films among `keys` that need no new prediction."""
        table, genres = self._predictions, self._probabilities
        query = sa.select(table.c.film_id, table.c.input_hash)
        query = query.where(table.c.model == model, table.c.film_id.in_(keys))
        if retry_errors:
            query = query.where(table.c.error.is_(None))
        if genres is not None:
            same = sa.and_(genres.c.film_id == table.c.film_id, genres.c.model == model)
            query = query.where(sa.or_(table.c.error.is_not(None), sa.exists().where(same)))
        return {_as_read(row[0]): row[1] for row in self._read(query)}

    def save(self, model: str, chunk: DatabaseChunk, predictions: Sequence[Prediction]) -> None:
        """Write a chunk's predictions in one transaction, in place of older ones.

        Raises:
            MmgcsError: the database stays away, or refuses.
        """
        now, rows, genres = datetime.now(UTC), [], []
        for key, hashed, prediction in zip(chunk.keys, chunk.hashes, predictions, strict=True):
            failed = prediction.error is not None
            rows.append(
                {
                    "film_id": key,
                    "genres": "|".join(prediction.genres),
                    "confidence": None if failed else prediction.confidence,
                    "sure": None if failed else prediction.sure,
                    "error": prediction.error,
                    "warnings": " | ".join(prediction.warnings) or None,
                    "input_hash": hashed,
                    "model": model,
                    "tagged_at": now,
                }
            )
            for genre, probability in prediction.probabilities.items():
                chosen = genre in prediction.genres
                value = {"genre": genre, "probability": probability, "chosen": chosen}
                genres.append({"film_id": key, "model": model, **value})

        def work(connection: sa.Connection) -> None:
            for table, values in ((self._predictions, rows), (self._probabilities, genres)):
                if table is not None:
                    old = sa.delete(table).where(table.c.model == model, table.c.film_id.in_(chunk.keys))
                    connection.execute(old)
                    if values:
                        connection.execute(sa.insert(table), values)

        self._write(work)

    def without_key(self) -> int:
        """Return how many films have no key, which SQLite allows: they cannot be tagged."""
        query = sa.select(sa.func.count()).select_from(self._films).where(self._key.is_(None), self._where)
        return int(self._read(query)[0][0])

    def deleted(self, model: str) -> int:
        """Return how many films have a prediction of this model, but are not in the table of films any more."""
        predictions = self._predictions
        there = sa.exists().where(self._key == predictions.c.film_id)
        query = sa.select(sa.func.count()).select_from(predictions).where(predictions.c.model == model, ~there)
        return int(self._read(query)[0][0])

    def close(self) -> None:
        """Close every connection."""
        self._reader.dispose()
        self._writer.dispose()

    def _film(self, row: Sequence[Any], number: int) -> Film:
        key = _as_read(row[0])
        name = key.hex() if isinstance(key, bytes) else str(key)
        values: dict[str, Any] = {"id": name}
        for column, value in zip(self._fields, map(_as_read, row[1:]), strict=True):
            if isinstance(value, bytes) and column != "poster":
                value = value.decode("utf-8", errors="replace")
            values[column] = value
        return self._rows.film(Row(values, place=f"{self.key} {name}"), number)

    def _read(self, query: sa.Select[Any]) -> Sequence[Any]:
        def work() -> Sequence[Any]:
            with self._reader.connect() as connection:
                return connection.execute(query).all()

        return self._retry(work)

    def _write(self, statements: Callable[[sa.Connection], None]) -> None:
        def work() -> None:
            with self._writer.begin() as connection:
                statements(connection)

        self._retry(work)

    def _retry(self, work: Callable[[], T]) -> T:
        """Do `work`, again while the database is away or locked and patience lasts."""
        until, wait = time.monotonic() + self._patience, 0.1
        while True:
            try:
                return work()
            except DBAPIError as error:
                if not _is_temporary(error) or time.monotonic() + wait > until:
                    reason = (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0].rstrip(".")
                    raise MmgcsError(
                        f"{self.place} refused or went away ({reason[:300]}); fix that, then run the same command "
                        f"again: predictions that were written are kept"
                    ) from error
                self.close()
                time.sleep(wait)
                wait = min(2 * wait, 5.0)


class _Declared(UserDefinedType[Any]):
    """A type of SQLite as it was declared; values are read and written without conversion."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        """Return the type's name in SQL."""
        return self.name


def _parse_address(address: str) -> sa.URL:
    """Return the address as SQLAlchemy connects to it. Raises UsageError if it is not one."""
    try:
        url = sa.make_url(address)
    except (ArgumentError, ValueError):
        raise UsageError("--from is not the address of a database; write it like sqlite:///films.db") from None
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite":
        if not url.database or url.database == ":memory:":
            raise UsageError("--from names no file; write it like sqlite:///films.db")
        if not Path(url.database).is_file():
            raise UsageError(f"the database {url.database} does not exist; check --from")
    return url


def _make_engines(url: sa.URL) -> tuple[sa.Engine, sa.Engine]:
    """Return an engine that only reads (of SQLite and PostgreSQL, it cannot write), and one that writes.

    Raises:
        UsageError: there is no driver for this kind of database.
    """
    kind = url.get_backend_name()
    try:
        if kind != "sqlite":
            arguments = {"connect_timeout": 10} if kind == "postgresql" else {}
            engine = sa.create_engine(url, pool_pre_ping=True, pool_size=1, connect_args=arguments)
            return engine.execution_options(postgresql_readonly=True), engine
        reader, writer = sa.create_engine(url), sa.create_engine(url)
    except NoSuchModuleError:
        raise UsageError(
            f"SQLAlchemy does not know the kind of database {url.drivername!r}; supported are "
            "postgresql, sqlite, and others with their SQLAlchemy packages"
        ) from None
    except ModuleNotFoundError as error:
        raise UsageError(f"{url.drivername} needs the Python driver {error.name}, which is not installed") from None

    @event.listens_for(reader, "connect")
    def only_read(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA query_only = ON")
        connection.text_factory = _text

    @event.listens_for(writer, "connect")
    def own_transactions(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # else the driver begins a transaction only after our first read
        connection.text_factory = _text

    @event.listens_for(writer, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return reader, writer


def _text(data: bytes) -> str:
    # SQLite takes any bytes for text; what is not UTF-8 is read like the files of other programs.
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _is_temporary(error: DBAPIError) -> bool:
    """Return True for errors that another try may not have: a lock, a server that is away, or a concurrent run."""
    if isinstance(error, IntegrityError):
        return True  # another run has written the same film since we looked
    if isinstance(error.orig, sqlite3.Error):
        return "locked" in str(error.orig) or "busy" in str(error.orig)
    return error.connection_invalidated or isinstance(error, OperationalError)


def input_hash(film: Film) -> str:
    """Return a hash of what a film is predicted from: its title, its plot, and its poster's bytes or path and size."""
    poster: str | None = None
    if isinstance(film.poster, Path):
        size = film.poster.stat().st_size if film.poster.is_file() else None
        poster = f"{film.poster} {size}"
    elif film.poster is not None:
        poster = hashlib.sha256(film.poster).hexdigest()
    inputs = [film.title, film.plot, poster, film.problem]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:32]


def _as_read(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview | bytearray) else value
