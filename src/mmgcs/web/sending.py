"""Files as answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Response, send_file


def send(path: Path, **options: Any) -> Response:
    """`flask.send_file`, which answers with the whole file where the request's conditions cannot be read.

    A date beyond the calendar in If-Modified-Since is one: werkzeug raises OverflowError.
    """
    try:
        return send_file(path, **options)
    except (OverflowError, ValueError):
        return send_file(path, conditional=False, **options)
