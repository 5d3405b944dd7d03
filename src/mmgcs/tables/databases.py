"""Films of a table in a database, and their predictions in tables of their own beside it.

Films are read in pages by key (keyset pagination: `key > last … order by key limit n`), so that a page costs the same
at the end of a table as at its start, and no transaction stays open between pages. The table of films is only ever
read: its connections refuse to write. A page's predictions, and how far they go, are written in one transaction, so a
run that was killed goes on exactly after the last film that was committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, NoSuchTableError
from sqlalchemy.types import UserDefinedType

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.film import Film, Prediction
from mmgcs.tables.connections import engines, may_pass, parsed
from mmgcs.tables.films import CHUNK
from mmgcs.tables.rows import RowReader, sources_of
from mmgcs.tables.source import Row

PREDICTIONS = "mmgcs_predictions"
"""The table that predictions go to, unless another is named."""

READ = ("title", "year", "plot", "genres", "poster")
"""The fields of a film that are read, where the table has them."""
IDENTITIES = ("imdb_id", "tmdb_id")
"""Columns that are read beside them: look-ups go by these."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """Films that were read together.

    Attributes:
        keys: the value of the key column for each film.
        films: the films, in the order of their keys.
    """

    keys: list[Any]
    films: list[Film]


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a model has come.

    Attributes:
        last_key: the key of the last film that was committed; None at the start.
        films: films committed.
        in_error: those of them that could not be predicted.
    """

    last_key: Any = None
    films: int = 0
    in_error: int = 0


class FilmDatabase:
    """A table of films in a database.

    Attributes:
        place: the address without its password, for messages.
        source: the name of the table of films.
        key: the column that films are told apart and ordered by.
    """

    def __init__(
        self,
        address: str,
        table: str,
        *,
        key: str | None = None,
        into: str = PREDICTIONS,
        posters: Path | None = None,
        patience: float = 30.0,
    ) -> None:
        """Connect, and check both tables. Creates the tables of predictions where they are missing.

        Args:
            address: like `sqlite:///films.db` or `postgresql://user@host/database`.
            table: the table or view of films; `schema.table` where it is in a schema of its own.
            key: a column that is unique and never null; the primary key without it.
            into: the table of predictions; `<into>_errors` and `<into>_runs` stand beside it.
            posters: the folder of posters; the current one without it.
            patience: seconds to wait for a database that went away or is locked.

        Raises:
            UsageError: the address, a table or a column is wrong.
            MmgcsError: the database cannot be reached, or refuses.
        """
        url = parsed(address)
        self.place = url.render_as_string(hide_password=True)
        self.source = table
        self._patience = patience
        self._reader, self._writer = engines(url)
        if posters is not None and not posters.is_dir():
            raise UsageError(f"the posters folder {posters} does not exist; check --posters")
        self._films = self._guarded(lambda: self._reflected(table))
        self._key = self._key_column(key)
        self.key = self._key.name
        columns = tuple(column.name for column in self._films.columns if column.name != self.key)
        sources = {field: name for field, name in sources_of(columns).items() if field in READ}
        if "plot" not in sources and "poster" not in sources:
            raise UsageError(
                f"the table {table} has no column plot (or overview) or poster; its columns are {', '.join(columns)}"
            )
        wanted = dict.fromkeys([*sources.values(), *(name for name in columns if name.casefold() in IDENTITIES)])
        self._columns = [self._films.columns[name] for name in wanted]
        self._rows = RowReader(("id", *wanted), posters or Path.cwd())
        self._predictions, self._errors, self._runs = self._targets(into)

    def pages(self, after: Any = None, size: int = CHUNK) -> Iterator[Page]:
        """The films after a key, in the order of their keys, `size` at a time.

        Raises:
            MmgcsError: the database stays away, or a key does not compare as it reads.
        """
        number = 0
        while True:
            condition = self._key.is_not(None) if after is None else self._key > after
            query = sa.select(self._key, *self._columns).where(condition).order_by(self._key).limit(size)
            rows = self._guarded(lambda query=query: self._read(query))  # type: ignore[misc]
            if not rows:
                return
            keys = [row[0] for row in rows]
            if keys[0] == after or len(set(keys)) < len(keys):
                raise MmgcsError(
                    f"the key {self.key} of {self.source} is not unique, or not UTF-8, at {str(keys[0])[:80]!r}; "
                    f"name another column with --key"
                )
            yield Page(keys, [self._film(row, number + place) for place, row in enumerate(rows, 1)])
            number += len(rows)
            after = keys[-1]

    def without_key(self) -> int:
        """How many films have no key, as SQLite allows: they cannot be tagged."""
        query = sa.select(sa.func.count()).select_from(self._films).where(self._key.is_(None))
        return int(self._guarded(lambda: self._read(query))[0][0])

    def begin(self, model: str, *, afresh: bool = False) -> Standing:
        """How far `model` has come. With `afresh` its predictions are removed first.

        Raises:
            UsageError: the tables of predictions belong to another table of films.
        """
        runs = self._runs

        def work() -> Standing:
            with self._writer.begin() as connection:
                other = connection.execute(sa.select(runs.c.source).where(runs.c.source != self.source)).scalar()
                if other is not None:
                    raise UsageError(
                        f"{self._predictions.name} holds predictions of the table {other}; give --into another name"
                    )
                if afresh:
                    for table in (self._predictions, self._errors, runs):
                        connection.execute(sa.delete(table).where(table.c.model == model))
                row = connection.execute(sa.select(runs).where(runs.c.model == model)).one_or_none()
                if row is not None:
                    return Standing(row.last_key, row.films, row.in_error)
                start = {"model": model, "source": self.source, "films": 0, "in_error": 0, "tagged_at": _now()}
                connection.execute(sa.insert(runs), [start])
                return Standing()

        return self._guarded(work)

    def commit(self, model: str, before: Standing, page: Page, predictions: Sequence[Prediction]) -> Standing:
        """Write one page's predictions in one transaction, and return how far the model has come with them.

        Where the connection breaks while the transaction is committed nobody knows whether it was; so what is there is
        looked at before it is tried again.

        Raises:
            MmgcsError: the database stays away, refuses, or another run of the same model writes at the same time.
        """
        now, runs = _now(), self._runs
        wrong = sum(prediction.error is not None for prediction in predictions)
        after = Standing(page.keys[-1], before.films + len(page.keys), before.in_error + wrong)
        rows, errors = [], []
        for key, prediction in zip(page.keys, predictions, strict=True):
            common = {"film_id": key, "model": model, "tagged_at": now}
            if prediction.error is not None:
                errors.append({**common, "error": prediction.error})
            for genre, probability in prediction.probabilities.items():
                rows.append(
                    {**common, "genre": genre, "probability": probability, "chosen": genre in prediction.genres}
                )

        def work() -> Standing:
            with self._writer.begin() as connection:
                stands = sa.select(runs.c.last_key, runs.c.films).where(runs.c.model == model).with_for_update()
                last_key, films = connection.execute(stands).one()
                if (last_key, films) == (after.last_key, after.films):
                    return after  # the transaction that seemed lost was not
                if (last_key, films) != (before.last_key, before.films):
                    raise MmgcsError(f"another run writes predictions of {model}; let it end, then run this one again")
                for table, values in ((self._predictions, rows), (self._errors, errors)):
                    if values:
                        connection.execute(sa.insert(table), values)
                standing = {"last_key": after.last_key, "films": after.films, "in_error": after.in_error}
                connection.execute(sa.update(runs).where(runs.c.model == model).values(**standing, tagged_at=now))
            return after

        return self._guarded(work)

    def close(self) -> None:
        """Close every connection."""
        self._reader.dispose()
        self._writer.dispose()

    def _read(self, query: sa.Select[Any]) -> Sequence[Any]:
        with self._reader.connect() as connection:
            return connection.execute(query).all()

    def _film(self, row: Sequence[Any], number: int) -> Film:
        values: dict[str, Any] = {"id": str(row[0])}
        for column, value in zip(self._columns, row[1:], strict=True):
            values[column.name] = bytes(value) if isinstance(value, memoryview) else value
        return self._rows.film(Row(values), number)

    def _reflected(self, name: str) -> sa.Table:
        with self._reader.connect() as connection:
            looker = sa.inspect(connection)
            schema, plain = None, name
            if not looker.has_table(name) and "." in name:
                schema, _, plain = name.partition(".")
            try:
                return sa.Table(plain, sa.MetaData(), schema=schema, autoload_with=connection, resolve_fks=False)
            except NoSuchTableError:
                known = sorted([*looker.get_table_names(schema), *looker.get_view_names(schema)])
                there = f"it has {', '.join(known)[:300]}" if known else "it has none"
                raise UsageError(f"{self.place} has no table {name!r}; {there}") from None

    def _key_column(self, name: str | None) -> sa.Column[Any]:
        if name is not None:
            if name not in self._films.columns:
                raise UsageError(
                    f"--key {name}: {self.source} has no such column; it has {', '.join(self._films.columns.keys())}"
                )
            return self._films.columns[name]
        keys = list(self._films.primary_key.columns)
        if len(keys) != 1:
            has = f"a primary key of {len(keys)} columns" if keys else "no primary key"
            raise UsageError(f"{self.source} has {has}; name a column that is unique and never null with --key")
        return keys[0]

    def _targets(self, into: str) -> tuple[sa.Table, sa.Table, sa.Table]:
        meta, schema = sa.MetaData(), self._films.schema
        kind = _kept_type(self._key.type)

        def table(name: str, key: tuple[str, ...], *columns: sa.Column[Any]) -> sa.Table:
            return sa.Table(name, meta, *columns, sa.PrimaryKeyConstraint(*key), schema=schema)

        def film() -> sa.Column[Any]:
            return sa.Column("film_id", kind, nullable=False, autoincrement=False)

        def text(name: str) -> sa.Column[Any]:
            return sa.Column(name, sa.Text, nullable=False)

        def moment() -> sa.Column[Any]:
            return sa.Column("tagged_at", sa.DateTime(timezone=True), nullable=False)

        probability = sa.Column("probability", sa.Double, nullable=False)
        chosen = sa.Column("chosen", sa.Boolean, nullable=False)
        counts = [sa.Column(name, sa.BigInteger, nullable=False) for name in ("films", "in_error")]
        tables = (
            table(
                into, ("film_id", "model", "genre"), film(), text("genre"), probability, chosen, text("model"), moment()
            ),
            table(f"{into}_errors", ("film_id", "model"), film(), text("error"), text("model"), moment()),
            table(
                f"{into}_runs",
                ("model",),
                text("model"),
                text("source"),
                sa.Column("last_key", kind),
                *counts,
                moment(),
            ),
        )

        def create() -> None:
            with self._writer.begin() as connection:
                looker = sa.inspect(connection)
                for ours in tables:
                    if not looker.has_table(ours.name, schema=schema):
                        continue
                    there = {column["name"] for column in looker.get_columns(ours.name, schema=schema)}
                    if there != {column.name for column in ours.columns}:
                        raise UsageError(f"{ours.name} exists and is no table of predictions; give --into another name")
                meta.create_all(connection)

        self._guarded(create)
        return tables

    def _guarded(self, work: Callable[[], T]) -> T:
        """Do `work`, again while the database is away or locked and patience lasts."""
        until, wait = time.monotonic() + self._patience, 0.1
        while True:
            try:
                return work()
            except DBAPIError as error:
                if not may_pass(error) or time.monotonic() + wait > until:
                    reason = (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0].rstrip(".")
                    raise MmgcsError(
                        f"{self.place} refused or went away ({reason[:300]}); mend that, then run the same command "
                        f"again: it goes on after the last film that was written"
                    ) from error
                self._reader.dispose()
                self._writer.dispose()
                time.sleep(wait)
                wait = min(2 * wait, 5.0)


class _AsItComes(UserDefinedType[Any]):
    """A column of SQLite without a type: values are kept as they come."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """The type's name in SQL: BLOB converts nothing."""
        return "BLOB"


def _kept_type(kind: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    """The type of a column that holds another column's values and orders them alike."""
    return _AsItComes() if isinstance(kind, sa.types.NullType) else kind


def _now() -> datetime:
    return datetime.now(UTC)
