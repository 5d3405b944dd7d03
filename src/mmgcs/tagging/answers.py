"""Answers of a web service, cached in an SQLite file so that nothing is asked twice."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from platformdirs import user_cache_path

from mmgcs.errors import MmgcsError, UsageError


def default_cache(name: str) -> Path:
    """Return the user's own cache file of that name."""
    return user_cache_path("mmgcs", appauthor=False) / f"{name}.sqlite"


class AnswerCache:
    """Cached answers by address. Several processes may share a file, the threads of one process may not.

    Args:
        path: the file; made if it is missing.

    Raises:
        UsageError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
            self._connection.execute(
                "create table if not exists answers (address text primary key, status integer, body blob, fetched real)"
            )
            self._connection.execute("select status, body, fetched from answers limit 1")
        except (sqlite3.Error, OSError) as error:
            raise UsageError(f"the cache {path} cannot be used ({error}); remove it or name another") from error

    def get(self, address: str, max_age: dict[int, float]) -> tuple[int, bytes] | None:
        """Return the cached status and body, unless older than `max_age` allows (seconds by status)."""
        query = "select status, body, fetched from answers where address = ?"
        row = self._execute(query, address).fetchone()
        if row is None or time.time() - row[2] > max_age.get(row[0], 0.0):
            return None
        return int(row[0]), bytes(row[1])

    def put(self, address: str, status: int, body: bytes) -> None:
        """Cache an answer."""
        self._execute("insert or replace into answers values (?, ?, ?, ?)", address, status, body, time.time())

    def _execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        try:
            return self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise MmgcsError(f"the cache {self.path} cannot be used ({error}); remove it or free space") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
