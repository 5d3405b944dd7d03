"""Connecting to databases: which kinds, how a connection that only reads is made, and which failures may pass."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from mmgcs.errors import UsageError
from mmgcs.registry import Registry

DIALECTS: Registry[Callable[[sa.URL], sa.URL]] = Registry("kind of database")
"""From the scheme of an address to the address that SQLAlchemy connects to."""


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


def parsed(address: str) -> sa.URL:
    """The address as SQLAlchemy connects to it. Raises UsageError where it is none, or of an unknown kind."""
    try:
        url = sa.make_url(address)
    except (ArgumentError, ValueError):
        raise UsageError("--from is no address of a database; write it like sqlite:///films.db") from None
    return DIALECTS[url.drivername](url)


def engines(url: sa.URL) -> tuple[sa.Engine, sa.Engine]:
    """An engine that only reads, and one that writes."""
    if url.get_backend_name() != "sqlite":
        made = sa.create_engine(url, pool_pre_ping=True, pool_size=1, connect_args={"connect_timeout": 10})
        return made.execution_options(postgresql_readonly=True), made
    reader, writer = sa.create_engine(url), sa.create_engine(url)

    @event.listens_for(reader, "connect")
    def only_read(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA query_only = ON")
        connection.text_factory = _text

    @event.listens_for(writer, "connect")
    def own_transactions(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # the driver would begin a transaction only after our first look
        connection.text_factory = _text

    @event.listens_for(writer, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return reader, writer


def _text(data: bytes) -> str:
    # SQLite holds any bytes as text; what is not UTF-8 is read as the tables of other programs are.
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def may_pass(error: DBAPIError) -> bool:
    """Whether an error may be over after a while: a lock, or a server that is away."""
    if isinstance(error.orig, sqlite3.Error):
        return "locked" in str(error.orig) or "busy" in str(error.orig)
    return error.connection_invalidated or isinstance(error, OperationalError)
