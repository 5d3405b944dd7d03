"""Where a table's bytes come from (a file, gzip, standard input) and how its lines become text."""

from __future__ import annotations

import codecs
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
from pathlib import Path
from typing import IO, Any, cast

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.files import open_file

MAX_LINE = 16 * 2**20
"""Bytes of one line that are read; the rest of a longer one is skipped and the row reported."""

CELL = 32
"""Bytes of memory that a value takes beside its text, about."""

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a table, as it came.

    Attributes:
        values: column to value.
        problem: why the record cannot be used; None where it can.
        warnings: what was odd about it.
        place: where it stands in the source, such as "line 7"; "" where that is not known.
        size: bytes of memory that its values take, about.
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
        number: its number in the file, from 1.
        text: its text with its line ending.
        warning: what had to be done to read it.
        cut: whether it was longer than MAX_LINE.
    """

    number: int
    text: str
    warning: str | None = None
    cut: bool = False


class Meter:
    """How far a file was read, by its bytes: for a compressed file, those on the disk."""

    def __init__(self, path: Path) -> None:
        self._size = path.stat().st_size
        self._handle: IO[bytes] | None = None

    def watch(self, handle: IO[bytes]) -> None:
        """Measure by this open file."""
        self._handle = handle

    def share(self) -> float:
        """The share that was read, 0 to 1; 1 of a file that was closed, 0 of one that was not opened yet."""
        if self._handle is None or not self._size:
            return 0.0
        return 1.0 if self._handle.closed else min(1.0, self._handle.tell() / self._size)


def table_format(path: Path) -> tuple[str, bool]:
    """The format a name says (".csv") and whether it is compressed with gzip (".csv.gz")."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = bool(suffixes) and suffixes[-1] == ".gz"
    if compressed:
        suffixes.pop()
    return (suffixes[-1] if suffixes else ""), compressed


def without_format(path: Path) -> str:
    """The file's name without what says its format.

    >>> without_format(Path("films.2023.csv.gz"))
    'films.2023'
    """
    suffix, compressed = table_format(path)
    return path.name[: len(path.name) - len(suffix) - len(".gz" if compressed else "")]


def check_readable(path: Path) -> None:
    """Raise UsageError where `path` is not a file that can be read."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a table of films; give a CSV, JSONL or Parquet file")
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
    """Standard input as a temporary file, so that it can be read twice and costs disk rather than memory."""
    with tempfile.TemporaryDirectory(prefix="mmgcs-stdin-", ignore_cleanup_errors=True) as folder:
        spooled = Path(folder) / f"stdin{suffix}"
        with spooled.open("wb") as handle:  # closed before it is read: Windows opens no such file twice
            shutil.copyfileobj(sys.stdin.buffer, handle)
        yield spooled


def read_lines(path: Path, meter: Meter | None = None) -> Iterator[Line]:
    """The lines of a text file, gzipped or not. UTF-8 with or without BOM, UTF-16 with one.

    A line that is not UTF-8 is read as Windows-1252, in which every byte but five is a letter, and says so.

    Args:
        path: the file.
        meter: told how far it was read.

    Raises:
        MmgcsError: a compressed file is damaged.
    """
    with _opened(path, meter) as raw:
        utf16 = raw.read(2) in _UTF16
        raw.seek(0)
        yield from (_utf16_lines if utf16 else _utf8_lines)(raw)


def is_utf16(path: Path) -> bool:
    """Whether a text file, gzipped or not, begins with the mark of UTF-16. Raises as `read_lines`."""
    with _opened(path) as raw:
        return raw.read(2) in _UTF16


@contextlib.contextmanager
def _opened(path: Path, meter: Meter | None = None) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as stored:
            if meter is not None:
                meter.watch(stored)
            if not table_format(path)[1]:
                yield stored
                return
            with gzip.GzipFile(fileobj=stored) as raw:
                yield cast("IO[bytes]", raw)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise MmgcsError(f"{path} is damaged or cut short ({error}); get the file again") from error


def _utf8_lines(raw: IO[bytes]) -> Iterator[Line]:
    number = 0
    while data := raw.readline(MAX_LINE):
        number += 1
        if number == 1:
            data = data.removeprefix(codecs.BOM_UTF8)
        cut = len(data) >= MAX_LINE and not data.endswith(b"\n")
        if cut:
            while (rest := raw.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                pass
        try:
            yield Line(number, data.decode("utf-8"), None, cut)
        except UnicodeDecodeError:
            text = data.decode("cp1252", errors="replace")
            yield Line(number, text, f"line {number} is not UTF-8; it was read as Windows-1252", cut)


def _utf16_lines(raw: IO[bytes]) -> Iterator[Line]:
    text = io.TextIOWrapper(raw, encoding="utf-16", errors="replace", newline="\n")
    number = 0
    try:
        while line := text.readline(MAX_LINE):
            number += 1
            yield Line(number, line)
    finally:
        text.detach()  # the file below belongs to the caller


def without_surrogates(value: Any) -> Any:
    """The value with the halves of surrogate pairs in its texts, which no file can hold, replaced by U+FFFD."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    return value
