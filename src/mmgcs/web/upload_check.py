"""Count the films of an uploaded table before it is tagged, and reject it if it is too large.

A packed table, such as a Parquet file of some kilobytes, can hold gigabytes and only shows it while it is read. Reading
a damaged one may even abort the process. So packed tables are counted by a process of their own with limited memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgcs.errors import InputError, MmgcsError
from mmgcs.tables import PACKED, FilmTable

MEMORY = 2**30
"""Bytes of memory that counting may take."""

_SECONDS = 120
_ONE = threading.Lock()
"""Held while a packed table is counted, so that several at once do not take `MEMORY` each."""


def count_films(table: Path, columns: Mapping[str, str], max_text: int, max_rows: int, stopped: threading.Event) -> int:
    """Return how many films a table has. Returns early once `stopped` is set.

    Raises:
        InputError: the table has over `max_rows` films, over `max_text` characters when unpacked, or cannot be read.
    """
    count = 0
    if table.suffix in PACKED:
        with _ONE:
            found = _count_in_process([str(table), json.dumps(dict(columns)), str(max_text), str(max_rows)], stopped)
        if "error" in found:
            raise InputError(found["error"])
        if "films" not in found and not stopped.is_set():  # out of memory, as a rule
            size = f"{max_text // 2**20} MiB"
            raise InputError(f"the table unpacks to over {size}, or is damaged; send it as CSV, or in parts")
        count = found.get("films", 0)
    else:
        for films in FilmTable(table, posters=table.parent, columns=columns).chunks():
            count += len(films)
            if stopped.is_set() or count > max_rows:
                break
    if count > max_rows:
        raise InputError(f"the table has over {max_rows:,} films; send it in parts")
    return count


def _count_in_process(arguments: list[str], stopped: threading.Event) -> dict[str, Any]:
    """Run this module as a process, which is killed once `stopped` is set or it takes too long."""
    # When memory has run out, a backtrace needs more of it and waits forever.
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "RUST_BACKTRACE": "0"}
    until = time.monotonic() + _SECONDS
    command = [sys.executable, "-m", "mmgcs.web.upload_check", *arguments]
    with subprocess.Popen(  # noqa: S603
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and time.monotonic() < until and not stopped.wait(0.05):
            pass
        process.kill()
        output = process.communicate()[0]
    found: dict[str, Any] = json.loads(output) if output else {}
    return found


def _count(table: Path, columns: Mapping[str, str], max_text: int, max_rows: int) -> dict[str, Any]:
    """Return the number of films, or why the table cannot be read; nothing if it is too large."""
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        memory = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    from polars.exceptions import PanicException

    text = count = 0
    try:
        for films in FilmTable(table, posters=table.parent, columns=columns).chunks():
            count += len(films)
            text += sum(len(str(value)) for film in films for value in film.record.values())
            if text > max_text:
                return {}
            if count > max_rows:
                break
    except MmgcsError as error:
        if isinstance(error.__cause__, PanicException):  # polars panics for damage, and for lack of memory
            return {}
        return {"error": str(error).replace(str(table), "the table")}
    return {"films": count}


if __name__ == "__main__":
    print(json.dumps(_count(Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
