"""Count the films of an uploaded table before it is tagged, and reject it if it is too large.

A packed table, such as a Parquet file of some kilobytes, can hold gigabytes and only shows it while it is read. Reading
a damaged one may even abort the process. So packed tables are counted by a process of their own with limited memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from mmgcs.errors import InputError, MmgcsError
from mmgcs.tables import PACKED, FilmTable

MEMORY = 2**30
"""Bytes of memory that counting may take."""

_ONE = threading.Lock()
"""Held while a packed table is counted, so that several at once do not take `MEMORY` each."""


def count_films(table: Path, columns: Mapping[str, str], max_text: int, max_rows: int, stopped: threading.Event) -> int:
    """Return how many films a table has. Returns early once `stopped` is set.

    Raises:
        MmgcsError: the table has over `max_rows` films, over `max_text` characters when unpacked, or cannot be read.
    """
    if table.suffix not in PACKED:
        return _count(table, columns, max_text, max_rows, stopped)
    # A backtrace needs more memory, and would wait forever once there is none.
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "RUST_BACKTRACE": "0"}
    given = json.dumps([str(table), dict(columns), max_text, max_rows])
    command = [sys.executable, "-m", "mmgcs.web.upload_check", given]
    with (
        _ONE,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process,  # noqa: S603
    ):
        until = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < until and not stopped.wait(0.05):
            pass
        process.kill()
        found = json.loads(process.communicate()[0] or b"{}")
    if not found and not stopped.is_set():  # usually out of memory
        raise _too_large(max_text)
    if "error" in found:
        raise InputError(found["error"])
    return int(found.get("films", 0))


def _count(table: Path, columns: Mapping[str, str], max_text: int, max_rows: int, stopped: threading.Event) -> int:
    text = count = 0
    for films in FilmTable(table, posters=table.parent, columns=columns).chunks():
        count += len(films)
        text += sum(len(str(value)) for film in films for value in film.record.values())
        if count > max_rows:
            raise InputError(f"the table has over {max_rows:,} films; send it in parts")
        if text > max_text:
            raise _too_large(max_text)
        if stopped.is_set():
            break
    return count


def _too_large(max_text: int) -> InputError:
    size = f"{max_text // 2**20} MiB"
    return InputError(f"the table unpacks to over {size}, or is damaged; send it as CSV, or in parts")


def _main() -> None:
    """Count in a process of its own. Prints the number of films or the error, or nothing if memory runs out."""
    path, columns, max_text, max_rows = json.loads(sys.argv[1])
    if sys.platform != "win32":
        import resource

        with contextlib.suppress(ValueError):  # there is a lower limit already
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    from polars.exceptions import PanicException

    try:
        print(json.dumps({"films": _count(Path(path), columns, max_text, max_rows, threading.Event())}))
    except MmgcsError as error:
        if not isinstance(error.__cause__, PanicException):  # polars panics for damage, and for lack of memory
            print(json.dumps({"error": str(error)}))


if __name__ == "__main__":
    _main()
