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
_TOO_LARGE, _TOO_MANY = 3, 4


def check_unpacked(table: Path, most: int, rows: int) -> None:
    """Refuse a table whose texts have over `most` characters, of over `rows` films, or over `MEMORY` to read.

    Raises:
        UnprocessableError: it does.
    """
    if table.suffix not in PACKED:
        return
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mmgcs.web.unpacked", str(table), str(most), str(rows)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=_SECONDS, check=False)  # noqa: S603
        status = done.returncode
    except subprocess.TimeoutExpired:
        status = _TOO_LARGE
    if status == _TOO_MANY:
        raise UnprocessableError(f"the table has over {rows:,} films; send it in parts")
    # Any other way of dying: out of memory as a rule. 1: it cannot be read, which the reading proper says better.
    if status not in (0, 1):
        raise UnprocessableError(f"the table unpacks to over {most // 2**20} MiB; send it as CSV, or in parts")


def _measure(table: Path, most: int, rows: int) -> int:
    try:
        import resource
    except ImportError:  # not on Windows
        pass
    else:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    from mmgcs.catalog import FilmTable

    held = count = 0
    try:
        for films in FilmTable(table, posters=table.parent).chunks():
            count += len(films)
            held += sum(len(film.plot or "") + len(film.title or "") for film in films)
            held += sum(len(str(value)) for film in films for value in film.extra.values())
            if held > most or count > rows:
                return _TOO_LARGE if held > most else _TOO_MANY
    except MmgcsError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_measure(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
