"""Whether a packed table is small enough once it is unpacked, found out by a process of its own, which may die of it.

A Parquet file of some kilobytes can hold gigabytes, and says so only as it is read.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from mmgcs.errors import MmgcsError
from mmgcs.tables import PACKED, FilmTable
from mmgcs.web.errors import UnprocessableError

MEMORY = 2**30
"""Bytes that reading such a table may take."""

_SECONDS = 120
_ONE = threading.Lock()
"""Held while a table is unpacked, so that many tables at once do not take `MEMORY` each. Others need not wait."""
_TOO_LARGE, _TOO_MANY, _UNREADABLE = 3, 4, 10


def check_unpacked(table: Path, most: int, rows: int, stopped: threading.Event) -> None:
    """Refuse a table whose texts have over `most` characters, of over `rows` films, or over `MEMORY` to read.

    What this refuses must not be read by the server itself. On Windows the memory has no limit. It returns early once
    `stopped` is set.

    Raises:
        UnprocessableError: it is such a table, or one that cannot be read.
    """
    if table.suffix not in PACKED:
        return
    with _ONE:
        status, said = _measured_apart([str(table), str(most), str(rows)], stopped)
    if stopped.is_set():
        return
    if status == _TOO_MANY:
        raise UnprocessableError(f"the table has over {rows:,} films; send it in parts")
    if status == _UNREADABLE:
        raise UnprocessableError(said)
    if status != 0:  # whatever else it died of: out of memory as a rule
        size = f"{most // 2**20} MiB"
        raise UnprocessableError(f"the table unpacks to over {size}, or is damaged; send it as CSV, or in parts")


def _measured_apart(arguments: list[str], stopped: threading.Event) -> tuple[int, str]:
    """What `_measure` returns and prints, in a process that is killed once `stopped` is set or it takes too long."""
    # Where memory has run out, a backtrace needs more of it, and waits for ever.
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "RUST_BACKTRACE": "0"}
    environment["PYTHONIOENCODING"] = "utf-8"
    until = time.monotonic() + _SECONDS
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "mmgcs.web.unpacked", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    ) as process:
        while not stopped.is_set() and time.monotonic() < until:
            try:
                said, _ = process.communicate(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
            return process.returncode, said.strip()
        process.kill()
    return _TOO_LARGE, ""


def _measure(table: Path, most: int, rows: int) -> int:
    try:
        import resource
    except ImportError:  # not on Windows
        pass
    else:
        _, most_allowed = resource.getrlimit(resource.RLIMIT_DATA)
        memory = MEMORY if most_allowed == resource.RLIM_INFINITY else min(MEMORY, most_allowed)
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    from polars.exceptions import PanicException

    held = count = 0
    try:
        for films in FilmTable(table, posters=table.parent).chunks():
            count += len(films)
            held += sum(len(str(value)) for film in films for value in film.record.values())
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
