"""The server's log: one JSON line per record on stderr, without anything a user sent."""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path

from pythonjsonlogger.json import JsonFormatter

LOG = logging.getLogger("mmgcs.web")


def describe_error(error: BaseException) -> dict[str, str]:
    """Return an error's type and place as log fields, without its message, which may contain what a user sent."""
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    return {"kind": type(error).__name__, "where": " ".join(places[-8:])}


class JsonLines(JsonFormatter):
    """Format log records as JSON, one per line."""

    def __init__(self) -> None:
        super().__init__(
            ["asctime", "levelname", "message"],
            datefmt="%Y-%m-%dT%H:%M:%S%z",
            rename_fields={"asctime": "time", "levelname": "level"},
        )

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        if record.exc_info or not record.name.startswith("mmgcs"):
            # Tracebacks and the HTTP server's messages may contain what a user sent; their place says enough.
            place = {"from": f"{record.name} {record.filename}:{record.lineno}"}
            error = record.exc_info[1] if record.exc_info else None
            more = {"levelname": record.levelname, **place, **(describe_error(error) if error is not None else {})}
            record = logging.makeLogRecord({"msg": "a problem in the server", **more})
        return super().format(record)


def log_to_stderr() -> None:
    """Write the application's and the HTTP server's log to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("mmgcs.web", "waitress"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
    LOG.setLevel(logging.INFO)
    # waitress warns about each request that waits for a thread; the metrics show that.
    logging.getLogger("waitress").setLevel(logging.ERROR)
