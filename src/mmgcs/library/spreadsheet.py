"""CSV files as Excel and LibreOffice save them: commas, semicolons or tabs, in UTF-8, UTF-16 or Windows-1252."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmgcs.errors import UsageError
from mmgcs.files import atomic_path, read_file

MAX_BYTES = 256 * 2**20
_FORMULA = ("=", "+", "-", "@", "'")


def read_cells(path: Path) -> list[list[str]]:
    """Return the rows of a CSV file whose encoding and delimiter are found out. Blank rows are left out.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        content = read_file(path, MAX_BYTES)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}); check the path") from None
    if len(content) > MAX_BYTES:
        raise UsageError(f"{path} is larger than {MAX_BYTES // 2**20} MiB, which is no list of films")
    text = _decode(content)
    first, _, rest = text.partition("\n")
    if first.lower().startswith("sep=") and len(first.strip()) == 5:  # Excel's own way to name the delimiter
        text, delimiter = rest, first[4]
    else:
        delimiter = max(",;\t", key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise UsageError(f"{path} is not a CSV file ({error}); save it again as CSV") from None
    return [
        [cell[1:] if cell[:1] == "'" and cell[1:2] in _FORMULA else cell for cell in row] for row in rows if any(row)
    ]


def write_cells(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV file that spreadsheets open as UTF-8, and in which no cell is a formula."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8-sig", newline="") as handle,
    ):
        csv.writer(handle).writerows([f"'{cell}" if cell[:1] in _FORMULA else cell for cell in row] for row in rows)


def _decode(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    if content[1:2] == b"\0":
        return content.decode("utf-16-le", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")
