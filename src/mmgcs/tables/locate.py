"""Finding the files of a table: one file, a folder, a pattern, a Hive-partitioned folder, or an object store."""

from __future__ import annotations

import contextlib
import glob
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.files import sha256
from mmgcs.tables.readers import READERS, load_plugins
from mmgcs.tables.source import check_readable, table_format

_REMOTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(?=[^/])")
_ONLY_ALONE = {".json", ".txt"}
"""Formats that are skipped in a folder with tables of other formats: reports, notes and the like have them too."""
_WILD = re.compile(r"[*?\[]")
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}


@dataclass(frozen=True, slots=True)
class TableFile:
    """One file of a table.

    Attributes:
        address: its path or URL.
        format: its format, such as ".csv".
        partition: columns that a Hive-partitioned folder's names give, such as `country=us`.
        size: its size in bytes, if known.
        version: changes whenever a remote file does.
    """

    address: str
    format: str
    partition: Mapping[str, str | None] = field(default_factory=dict)
    size: int = 0
    version: str = ""

    @property
    def remote(self) -> bool:
        """True if the file must be downloaded."""
        return is_remote(self.address)

    def fingerprint(self) -> str:
        """Return what changes whenever the file's contents do."""
        return f"{self.size} {self.version}" if self.remote else sha256(Path(self.address))

    def local(self, scratch: Path) -> Path:
        """Return the file's path, after downloading it into `scratch` if it is remote."""
        if not self.remote:
            return Path(self.address)
        files, path = _file_system(self.address)
        copy = scratch / PurePosixPath(path).name
        try:
            files.get_file(path, str(copy))
        except Exception as error:  # each file system raises its own
            raise MmgcsError(f"{self.address} cannot be downloaded ({type(error).__name__}); try again") from error
        return copy


def is_remote(address: str) -> bool:
    """Return True for the address of an object store or another URL."""
    return _REMOTE.match(address) is not None


def normal_address(address: str | Path) -> str:
    """Return a path as it is, and a URL with both slashes, of which a Path keeps one.

    >>> normal_address(Path("s3://films/2024"))
    's3://films/2024'
    """
    return _REMOTE.sub(r"\1://", str(address), count=1)


def find_tables(address: str | Path, suffix: str | None = None) -> list[TableFile]:
    """Return the files of the table at an address, by name.

    Files and folders whose names begin with `.` or `_`, and files of other formats, are skipped
    in folders and patterns.

    Args:
        address: a file, a folder, a pattern such as `films/*.csv`, or the URL of one of these.
        suffix: the format of a file whose name does not state it.

    Raises:
        UsageError: nothing is there, or it cannot be read.
    """
    load_plugins()
    address = normal_address(address)
    if is_remote(address):
        return _find_remote(address)
    path = Path(address)
    if path.is_dir():
        found = _without_notes(sorted(path.rglob("*")))
        root = path
    elif _WILD.search(address) and not path.exists():
        found = sorted(map(Path, glob.glob(address, recursive=True)))  # noqa: PTH207  patterns may be absolute
        root = fixed_part(address)
    else:
        check_readable(path)
        form = suffix or table_format(path)[0]
        READERS[form]
        return [TableFile(str(path), form, size=path.stat().st_size)]
    tables = [
        TableFile(str(file), table_format(file)[0], _partition(file.relative_to(root)), file.stat().st_size)
        for file in found
        if table_format(file)[0] in READERS and file.is_file() and not _is_hidden(file.relative_to(root))
    ]
    return _checked(tables, address)


def fixed_part(address: str) -> Path:
    """Return the folder that a pattern's files are all in."""
    parts = Path(address).parts
    fixed = next((number for number, part in enumerate(parts) if _WILD.search(part)), len(parts))
    return Path(*parts[:fixed]) if fixed else Path()


def _find_remote(address: str) -> list[TableFile]:
    files, path = _file_system(address)
    try:
        if _WILD.search(path):
            found = files.glob(path, detail=True)
            root = fixed_part(path)
        elif files.isdir(path):
            found = files.find(path, detail=True)
            found = {str(name): found[str(name)] for name in _without_notes(list(map(PurePosixPath, found)))}
            root = Path(path)
        else:
            found = {path: files.info(path)}
            root = Path(path).parent
    except FileNotFoundError:
        found, root = {}, Path()
    except Exception as error:  # each file system raises its own
        raise MmgcsError(f"{address} cannot be reached ({str(error).strip()[:200]}); check the credentials") from error
    scheme = address.partition("://")[0]
    tables = []
    for name, entry in sorted(found.items()):
        below = Path(name)
        with contextlib.suppress(ValueError):
            below = below.relative_to(root)
        form = table_format(Path(name))[0]
        if entry["type"] == "file" and form in READERS and not _is_hidden(below):
            version = str(
                entry.get("ETag") or entry.get("mtime") or entry.get("LastModified") or entry.get("created") or ""
            )
            tables.append(TableFile(f"{scheme}://{name}", form, _partition(below), int(entry["size"] or 0), version))
    return _checked(tables, address)


def _file_system(address: str) -> tuple[Any, str]:
    scheme = address.partition("://")[0]
    try:
        from fsspec.core import url_to_fs

        files, path = url_to_fs(address)
    except (ImportError, ValueError):
        package = _PACKAGES.get(scheme)
        advice = f"pip install 'mmgcs[cloud]' {package}" if package else "known are s3, gs and az"
        raise UsageError(f"{address} cannot be read: {scheme}:// is not supported here; {advice}") from None
    return files, str(path)


def _checked(tables: list[TableFile], address: str) -> list[TableFile]:
    if not tables:
        raise UsageError(f"there is no table of films at {address}; known formats: {', '.join(READERS)}")
    return tables


def _without_notes(paths: list[Any]) -> list[Any]:
    tables = [path for path in paths if (form := table_format(path)[0]) in READERS and form not in _ONLY_ALONE]
    return tables or paths


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts if "=" not in part)


def _partition(path: Path) -> dict[str, str | None]:
    pairs = [part.split("=", 1) for part in path.parts[:-1] if "=" in part]
    return {key: None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value) for key, value in pairs}
