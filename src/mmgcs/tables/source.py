"""Open the file of a table and read it line by line."""

from __future__ import annotations

import contextlib
import gzip
import io
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Any, cast

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.files import open_file, text_encoding

MAX_LINE = 16 * 2**20
"""The longest line in characters. The rest of a longer one is skipped, and its row is reported as an error."""

CELL = 32
"""Approximate memory overhead of one value, in bytes."""

BLANK = "\ufeff\x00\x1a \t\r\n"
"""Characters that count as blank; 0x1A marks the end of a file on old systems."""

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a table.

    Attributes:
        values: column to value.
        problem: why the record cannot be used, or None.
        warnings: problems that do not prevent a prediction.
        place: position in the source, such as "line 7"; "" if unknown.
        size: approximate memory of its values, in bytes.
    """

    values: dict[str, Any]
    problem: str | None = None
    warnings: tuple[str, ...] = ()
    place: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One physical line.

    Attributes:
        number: line number in the file, from 1.
        text: the text including its line ending.
        warning: how it was decoded, if not as usual.
        cut: True if it was longer than MAX_LINE.
    """

    number: int
    text: str
    warning: str | None = None
    cut: bool = False


class Meter:
    """Measures how much of a file has been read."""

    def __init__(self, path: Path) -> None:
        self._size = path.stat().st_size
        self.handle: IO[bytes] | None = None

    def share(self) -> float:
        """Return the share of its bytes that has been read, 0 to 1."""
        if self.handle is None or not self._size:
            return 0.0
        return 1.0 if self.handle.closed else min(1.0, self.handle.tell() / self._size)


def table_format(path: PurePath) -> tuple[str, str]:
    """Return the format and the compression in a file name, "" for none.

    >>> table_format(Path("films.CSV.gz")), table_format(Path("films.parquet"))
    (('.csv', '.gz'), ('.parquet', ''))
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in (".gz", ".zst") else ""
    return (suffixes[-1] if suffixes else ""), compression


def without_format(path: PurePath) -> str:
    """Return a file name without its format and compression.

    >>> without_format(Path("films.2023.csv.gz"))
    'films.2023'
    """
    return path.name[: len(path.name) - len("".join(table_format(path)))]


def check_readable(path: Path) -> None:
    """Raise UsageError if `path` is not a readable file, or is empty."""
    try:
        with open_file(path) as handle:
            empty = not handle.read(1)
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; check the path") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if empty:
        raise UsageError(f"{path} is empty; give a table with a header and at least one film")


@contextlib.contextmanager
def spooled_stdin(suffix: str) -> Iterator[Path]:
    """Copy standard input to a temporary file, because tables are read twice."""
    with tempfile.TemporaryDirectory(prefix="mmgcs-stdin-", ignore_cleanup_errors=True) as folder:
        spooled = Path(folder) / f"stdin{suffix}"
        with spooled.open("wb") as handle:  # Windows cannot open it for reading before it is closed
            shutil.copyfileobj(sys.stdin.buffer, handle)
        yield spooled


@contextlib.contextmanager
def open_table(path: Path, meter: Meter | None = None) -> Iterator[IO[bytes]]:
    """Open a file and decompress it if its name ends in .gz or .zst.

    Raises:
        MmgcsError: a compressed file is damaged.
    """
    from backports import zstd

    compression = table_format(path)[1]
    try:
        with path.open("rb") as stored:
            if meter is not None:
                meter.handle = stored
            if not compression:
                yield stored
                return
            raw = gzip.GzipFile(fileobj=stored) if compression == ".gz" else io.BufferedReader(zstd.ZstdFile(stored))
            with raw:
                yield cast("IO[bytes]", raw)
    except (EOFError, gzip.BadGzipFile, zlib.error, zstd.ZstdError) as error:
        raise MmgcsError(f"{path} is damaged or incomplete; download or export the file again") from error


def encoding_of(path: Path) -> tuple[str, str]:
    """Return a text file's encoding ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be") and its line ending."""
    with open_table(path) as raw:
        start = raw.read(4096)
    returns = start.replace(b"\x00", b"")
    return text_encoding(start), "\r" if b"\r" in returns.rstrip(b"\r") and b"\n" not in returns else "\n"


@contextlib.contextmanager
def open_text(path: Path, meter: Meter | None = None) -> Iterator[IO[str]]:
    """Open a text file in UTF-8 or UTF-16, decompressed. Bytes that are not UTF-8 become surrogates."""
    encoding, newline = encoding_of(path)
    errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
    with open_table(path, meter) as raw:
        text = io.TextIOWrapper(raw, encoding, errors=errors, newline=None if newline == "\r" else "\n")
        try:
            yield text
        finally:
            text.detach()  # open_table closes the file


def read_lines(path: Path, meter: Meter | None = None) -> Iterator[Line]:
    """Yield the lines of a text file in UTF-8 or UTF-16, with or without a byte order mark.

    A line that is not UTF-8 is read as Windows-1252, with a warning.

    Raises:
        MmgcsError: a compressed file is damaged.
    """
    number = 0
    with open_text(path, meter) as text:
        while line := text.readline(MAX_LINE):
            number += 1
            warning = None
            cut = len(line) >= MAX_LINE and not line.endswith("\n")
            while cut and (rest := text.readline(MAX_LINE)) and not rest.endswith("\n"):
                pass
            if not line.isascii() and _SURROGATE.search(line):
                line = line.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
                warning = f"line {number} is not UTF-8; it was read as Windows-1252"
            yield Line(number, line, warning, cut)


def without_surrogates(value: Any) -> Any:
    """Replace unpaired surrogates, which cannot be encoded, by U+FFFD in all texts of a value."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    return value
