"""Connect to databases: SQLite, PostgreSQL, and whatever else SQLAlchemy has a driver for."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, OperationalError

from mmgcs.errors import UsageError
from mmgcs.registry import Registry

DIALECTS: Registry[Callable[[sa.URL], sa.URL]] = Registry("kind of database")
"""From the scheme of an address to a function that returns the address SQLAlchemy connects to."""


@DIALECTS.register("sqlite")
def _sqlite(url: sa.URL) -> sa.URL:
    if not url.database or url.database == ":memory:":
        raise UsageError("--from names no file; write it like sqlite:///films.db")
    if not Path(url.database).is_file():
        raise UsageError(f"the database {url.database} does not exist; check --from")
    return url


@DIALECTS.register("postgresql", "postgres", "postgresql+psycopg")
def _postgresql(url: sa.URL) -> sa.URL:
    return url.set(drivername="postgresql+psycopg")


def parse_address(address: str) -> sa.URL:
    """Return the address as SQLAlchemy connects to it. Raises UsageError if it is not one."""
    try:
        url = sa.make_url(address)
    except (ArgumentError, ValueError):
        raise UsageError("--from is not the address of a database; write it like sqlite:///films.db") from None
    return DIALECTS[url.drivername](url) if url.drivername in DIALECTS else url


def make_engines(url: sa.URL) -> tuple[sa.Engine, sa.Engine]:
    """Return an engine that only reads (of SQLite and PostgreSQL, it cannot write), and one that writes.

    Raises:
        UsageError: there is no driver for this kind of database.
    """
    if url.get_backend_name() == "sqlite":
        return _sqlite_engines(url)
    try:
        arguments = {"connect_timeout": 10} if url.get_backend_name() == "postgresql" else {}
        made = sa.create_engine(url, pool_pre_ping=True, pool_size=1, connect_args=arguments)
    except NoSuchModuleError:
        raise UsageError(
            f"SQLAlchemy does not know the kind of database {url.drivername!r}; supported are "
            "postgresql, sqlite, and others with their SQLAlchemy packages"
        ) from None
    except ModuleNotFoundError as error:
        raise UsageError(f"{url.drivername} needs the Python driver {error.name}, which is not installed") from None
    return made.execution_options(postgresql_readonly=True), made


def _sqlite_engines(url: sa.URL) -> tuple[sa.Engine, sa.Engine]:
    reader, writer = sa.create_engine(url), sa.create_engine(url)

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


def is_temporary(error: DBAPIError) -> bool:
    """Return True for errors that another try may not have: a lock, a server that is away, or a concurrent run."""
    if isinstance(error, IntegrityError):
        return True  # another run has written the same film since we looked
    if isinstance(error.orig, sqlite3.Error):
        return "locked" in str(error.orig) or "busy" in str(error.orig)
    return error.connection_invalidated or isinstance(error, OperationalError)
