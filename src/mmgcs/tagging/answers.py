"""Answers of the web, kept in a SQLite file, so that nothing is asked for twice."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from pathlib import Path

from mmgcs.errors import MmgcsError, UsageError

SCHEMA = "create table if not exists answers (address text primary key, status integer, body blob, fetched real)"


def default_cache(name: str) -> Path:
    """The user's own cache file of that name: below `$XDG_CACHE_HOME`, or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmgcs" / f"{name}.sqlite"


class Answers:
    """Kept answers by address. Safe to share between threads and processes."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises UsageError where it cannot be used."""
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
            self._connection.execute(SCHEMA)
            self._connection.execute("select status, body, fetched from answers limit 1")
        except (sqlite3.Error, OSError) as error:
            raise UsageError(f"the cache {path} cannot be used ({error}); remove it or name another") from error

    def get(self, address: str, max_age: dict[int, float]) -> tuple[int, bytes] | None:
        """The status and body kept for an address, unless older than `max_age` (seconds by status) allows.

        Raises MmgcsError where the file cannot be read.
        """
        with self._lock:
            try:
                query = "select status, body, fetched from answers where address = ?"
                row = self._connection.execute(query, (address,)).fetchone()
            except sqlite3.Error as error:
                raise MmgcsError(f"the cache {self.path} cannot be read ({error}); remove it") from error
        if row is None or time.time() - row[2] > max_age.get(row[0], 0.0):
            return None
        return int(row[0]), bytes(row[1])

    def put(self, address: str, status: int, body: bytes) -> None:
        """Keep an answer. Raises MmgcsError where it cannot be written."""
        with self._lock:
            try:
                change = "insert or replace into answers values (?, ?, ?, ?)"
                self._connection.execute(change, (address, status, body, time.time()))
            except sqlite3.Error as error:
                raise MmgcsError(f"the cache {self.path} cannot be written ({error}); free space") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
