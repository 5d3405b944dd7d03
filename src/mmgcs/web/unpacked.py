"""Whether a packed table is small enough once it is unpacked, found out by a process of its own, which may die of it.

A Parquet file of some kilobytes can hold gigabytes, and says so only as it is read.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mmgcs.errors import MmgcsError
from mmgcs.web.errors import UnprocessableError

PACKED = frozenset({".parquet", ".pq"})
"""Formats that unpack to more than their file holds."""
MEMORY = 2**30
"""Bytes that reading such a table may take."""

_SECONDS = 120
_TOO_LARGE, _TOO_MANY, _UNREADABLE = 3, 4, 10


def check_unpacked(table: Path, most: int, rows: int) -> None:
    """Refuse a table whose texts have over `most` characters, of over `rows` films, or over `MEMORY` to read.

    What this refuses must not be read by the server itself. On Windows the memory has no limit.

    Raises:
        UnprocessableError: it is such a table, or one that cannot be read.
    """
    if table.suffix not in PACKED:
        return
    # Where memory has run out, a backtrace needs more of it, and waits for ever.
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "RUST_BACKTRACE": "0"}
    command = [sys.executable, "-m", "mmgcs.web.unpacked", str(table), str(most), str(rows)]
    try:
        done = subprocess.run(  # noqa: S603
            command, env=environment, capture_output=True, timeout=_SECONDS, check=False, encoding="utf-8"
        )
        status, said = done.returncode, done.stdout.strip()
    except subprocess.TimeoutExpired:
        status, said = _TOO_LARGE, ""
    if status == _TOO_MANY:
        raise UnprocessableError(f"the table has over {rows:,} films; send it in parts")
    if status == _UNREADABLE:
        raise UnprocessableError(said)
    if status != 0:  # whatever else it died of: out of memory as a rule
        size = f"{most // 2**20} MiB"
        raise UnprocessableError(f"the table unpacks to over {size}, or is damaged; send it as CSV, or in parts")


def _measure(table: Path, most: int, rows: int) -> int:
    try:
        import resource
    except ImportError:  # not on Windows
        pass
    else:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    from polars.exceptions import PanicException

    from mmgcs.catalog import FilmTable

    held = count = 0
    try:
        for films in FilmTable(table, posters=table.parent).chunks():
            count += len(films)
            held += sum(len(film.plot or "") + len(film.title or "") for film in films)
            held += sum(len(str(value)) for film in films for value in film.extra.values())
            if held > most or count > rows:
                return _TOO_LARGE if held > most else _TOO_MANY
    except MmgcsError as error:
        if isinstance(error.__cause__, PanicException):  # polars makes one of damage and of too little memory
            return _TOO_LARGE
        print(error)
        return _UNREADABLE
    except MemoryError:
        return _TOO_LARGE
    return 0


if __name__ == "__main__":
    sys.exit(_measure(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
