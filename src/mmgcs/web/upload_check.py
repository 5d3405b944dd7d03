"""Count the films of an uploaded table before it is tagged, and reject it if it is too large.

A packed table, such as a Parquet file of some kilobytes, can hold gigabytes and only shows it while it is read. Reading
a damaged one may even abort the process. So packed tables are counted by a process of their own with limited memory.
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
"""Bytes of memory that counting may take."""

_SECONDS = 120
_ONE = threading.Lock()
"""Held while a packed table is counted, so that several at once do not take `MEMORY` each."""
_TOO_LARGE, _TOO_MANY, _UNREADABLE = 3, 4, 10


def count_films(table: Path, max_text: int, max_rows: int, stopped: threading.Event) -> int:
    """Return how many films a table has. Returns early once `stopped` is set.

    Args:
        table: the table.
        max_text: characters that a packed table's cells may have in all.
        max_rows: films it may have.
        stopped: set to give up.

    Raises:
        UnprocessableError: the table has too many films, is too large when unpacked, or cannot be read.
    """
    if table.suffix in PACKED:
        with _ONE:
            status, output = _count_in_process([str(table), str(max_text), str(max_rows)], stopped)
        if stopped.is_set():
            return 0
        if status == 0:
            return int(output)
        if status == _UNREADABLE:
            raise UnprocessableError(output)
        if status != _TOO_MANY:  # any other status: out of memory, as a rule
            size = f"{max_text // 2**20} MiB"
            raise UnprocessableError(f"the table unpacks to over {size}, or is damaged; send it as CSV, or in parts")
        count = max_rows + 1
    else:
        count = 0
        for films in FilmTable(table, posters=table.parent).chunks():
            count += len(films)
            if stopped.is_set() or count > max_rows:
                break
    if count > max_rows:
        raise UnprocessableError(f"the table has over {max_rows:,} films; send it in parts")
    return count


def _count_in_process(arguments: list[str], stopped: threading.Event) -> tuple[int, str]:
    """Run `_count` in a process, which is killed once `stopped` is set or it takes too long."""
    # When memory has run out, a backtrace needs more of it and waits forever.
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "RUST_BACKTRACE": "0"}
    environment["PYTHONIOENCODING"] = "utf-8"
    until = time.monotonic() + _SECONDS
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "mmgcs.web.upload_check", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    ) as process:
        while not stopped.is_set() and time.monotonic() < until:
            try:
                output, _ = process.communicate(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
            return process.returncode, output.strip()
        process.kill()
    return _TOO_LARGE, ""


def _count(table: Path, max_text: int, max_rows: int) -> int:
    """Print the number of films, or why the table cannot be read. Returns the exit status."""
    try:
        import resource
    except ImportError:  # on Windows
        pass
    else:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        memory = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    from polars.exceptions import PanicException

    text = count = 0
    try:
        for films in FilmTable(table, posters=table.parent).chunks():
            count += len(films)
            text += sum(len(str(value)) for film in films for value in film.record.values())
            if text > max_text or count > max_rows:
                return _TOO_LARGE if text > max_text else _TOO_MANY
    except MmgcsError as error:
        if isinstance(error.__cause__, PanicException):  # polars panics for damage, and for lack of memory
            return _TOO_LARGE
        print(str(error).replace(str(table), "the table"))
        return _UNREADABLE
    except MemoryError:
        return _TOO_LARGE
    print(count)
    return 0


if __name__ == "__main__":
    sys.exit(_count(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
