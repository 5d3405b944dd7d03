"""Find the files of a table: one file, a folder (perhaps Hive-partitioned) or a pattern, on disk or in an object store.

Object stores have URLs that fsspec supports, such as `s3://bucket/films`.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import Any
from urllib.parse import unquote

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.files import atomic_writer, sha256
from mmgcs.tables.readers import READERS
from mmgcs.tables.source import check_readable, table_format

_REMOTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(?=[^/])")
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}
_WILD = re.compile(r"[*?\[]")
_HIDDEN = re.compile(r"(?:^|/)[._][^/=]*(?:/|$)")


def is_remote(address: str | Path) -> bool:
    """Return True for a URL, such as that of an object store."""
    return _REMOTE.match(str(address)) is not None


def normal_address(address: str | PurePath) -> str:
    """Return the address with both slashes of a URL, of which a `Path` keeps only one.

    >>> normal_address(Path("s3://films/2024"))
    's3://films/2024'
    """
    return _REMOTE.sub(r"\1://", str(address), count=1)


def _file_system(address: str) -> tuple[Any, str]:
    """Return fsspec's file system for an address, and the path in it.

    Raises:
        UsageError: no installed package supports this kind of address.
    """
    scheme = address.partition("://")[0]
    try:
        from fsspec.core import url_to_fs

        files, path = url_to_fs(address)
    except (ImportError, ValueError):
        package = _PACKAGES.get(scheme)
        advice = f"pip install 'mmgcs[cloud]' {package}" if package else "known are s3, gs and az"
        raise UsageError(f"{address} cannot be reached: {scheme}:// is not supported here; {advice}") from None
    return files, str(path)


class Folder:
    """A folder on disk or in an object store. Objects are written whole or not at all.

    Attributes:
        address: its path or URL.
        local: True if it is on this machine.
    """

    def __init__(self, address: str | Path) -> None:
        """Open a folder. Raises UsageError if no installed package supports this kind of address."""
        self.address = normal_address(address).rstrip("/")
        self._files, self._root = _file_system(self.address)
        self.local = not is_remote(self.address) or self.address.startswith(("file://", "local://"))

    def path(self, name: str = "") -> str:
        """Return the path of the folder or of an object in it, without the scheme."""
        return str(PurePosixPath(self._root) / name)

    def read(self, name: str) -> bytes:
        """Return an object's bytes. Raises OSError, such as FileNotFoundError."""
        data: bytes = self._files.cat_file(self.path(name))
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write an object."""
        if self.local:
            with atomic_writer(Path(self.path(name)), "wb") as handle:
                handle.write(data)
        else:  # in an object store, an object only appears once it is complete
            self._files.pipe_file(self.path(name), data)

    def names(self, below: str = "") -> list[str]:
        """Return the names of the objects in the folder, or in a subfolder; [] if it does not exist."""
        with contextlib.suppress(FileNotFoundError):
            self._files.invalidate_cache()
            return sorted(PurePosixPath(name).name for name in self._files.ls(self.path(below), detail=False))
        return []

    def remove(self) -> None:
        """Remove the folder and everything in it."""
        with contextlib.suppress(FileNotFoundError):
            self._files.rm(self._root, recursive=True)


@dataclass(frozen=True, slots=True)
class TableFile:
    """One file of a table.

    Attributes:
        address: its path or URL.
        format: its format, such as ".csv".
        below: its path relative to the given folder, or to the part of the pattern without wildcards.
        partition: columns from the names of Hive-partitioned folders, such as `country=us`.
        size: its size in bytes, if known.
        version: changes whenever a remote file changes.
    """

    address: str
    format: str
    below: str = ""
    partition: Mapping[str, str | None] = field(default_factory=dict)
    size: int = 0
    version: str = ""

    @property
    def remote(self) -> bool:
        """True if the file must be downloaded."""
        return is_remote(self.address)

    @property
    def folder(self) -> str:
        """The address of the folder it is in."""
        path = PurePosixPath(self.address) if self.remote else Path(self.address)
        return normal_address(path.parent)

    def fingerprint(self) -> str:
        """Return text that changes whenever the contents of the file change."""
        return f"{self.size} {self.version}" if self.remote else sha256(Path(self.address))

    def changed_since(self, seconds: float) -> bool:
        """Return True if the file was written, or moved here, after a time in seconds since 1970, or may have been."""
        if not self.remote:
            status = Path(self.address).stat()
            return max(status.st_mtime, status.st_ctime) > seconds  # a file that is moved keeps its `st_mtime`
        files, path = _file_system(self.address)
        try:
            return bool(files.modified(path).timestamp() > seconds)
        except NotImplementedError:  # some stores do not tell
            return True

    def local(self, scratch: Path) -> Path:
        """Return the local path of the file, which is downloaded into `scratch` if it is remote."""
        if not self.remote:
            return Path(self.address)
        files, path = _file_system(self.address)
        copy = scratch / PurePosixPath(path).name
        try:
            files.get_file(path, str(copy))
        except Exception as error:  # each file system raises its own
            raise MmgcsError(f"{self.address} cannot be downloaded ({type(error).__name__}); try again") from error
        return copy


def find_tables(address: str | Path) -> list[TableFile]:
    """Return the files of the table at an address, sorted by name.

    In folders and patterns, hidden files, names that begin with `_`, and unknown formats are skipped.

    Args:
        address: a file, a folder, a pattern such as `films/*.csv`, or the URL of one of these.

    Raises:
        UsageError: there is no table, or it cannot be read.
    """
    address = normal_address(address)
    kind, tables = _find_remote(address) if is_remote(address) else _find_local(address)
    if kind != "file":
        tables = [file for file in tables if file.format in READERS and not _HIDDEN.search(file.below)]
    if kind == "folder":
        # Next to tables of other formats, these are usually reports and notes.
        tables = [file for file in tables if file.format not in (".json", ".txt")] or tables
    if not tables:
        library = "; for a folder of films with .nfo files, use mmgcs library" if kind == "folder" else ""
        raise UsageError(f"there is no table of films at {address}; known formats: {', '.join(READERS)}{library}")
    return tables


def fixed_part(address: str) -> Path:
    """Return the folder that all files of a pattern are in: the part without wildcards."""
    parts = Path(address).parts
    return Path(*itertools.takewhile(lambda part: not _WILD.search(part), parts))


def _find_local(address: str) -> tuple[str, list[TableFile]]:
    """Return the kind of an address ("file", "folder" or "pattern"), and the files there."""
    path = Path(address)
    if path.is_dir():
        kind, root, found = "folder", path, sorted(path.rglob("*"))
    elif _WILD.search(address) and not path.exists():
        found = sorted(map(Path, glob.glob(address, recursive=True)))  # noqa: PTH207
        kind, root = "pattern", fixed_part(address)
    else:
        check_readable(path)
        READERS[table_format(path)[0]]
        kind, root, found = "file", path.parent, [path]
    return kind, [
        _table_file(str(file), PurePosixPath(file.relative_to(root)), file.stat().st_size)
        for file in found
        if file.is_file()
    ]


def _find_remote(address: str) -> tuple[str, list[TableFile]]:
    files, path = _file_system(address)
    try:
        if _WILD.search(path):
            kind, root, found = "pattern", PurePosixPath(fixed_part(path)), files.glob(path, detail=True)
        elif files.isdir(path):
            kind, root, found = "folder", PurePosixPath(path), files.find(path, detail=True)
        else:
            kind, root, found = "file", PurePosixPath(path).parent, {path: files.info(path)}
    except FileNotFoundError:
        return "file", []
    except Exception as error:  # each file system raises its own
        raise MmgcsError(f"{address} cannot be reached ({str(error).strip()[:200]}); check the credentials") from error
    scheme = address.partition("://")[0]
    tables = []
    for name, entry in sorted(found.items()):
        file = PurePosixPath(name)
        below = file.relative_to(root) if file.is_relative_to(root) else file
        if entry["type"] == "file":
            version = next((entry[key] for key in ("ETag", "mtime", "LastModified", "created") if entry.get(key)), "")
            tables.append(_table_file(f"{scheme}://{name}", below, int(entry["size"] or 0), str(version)))
    return kind, tables


def _table_file(address: str, below: PurePosixPath, size: int, version: str = "") -> TableFile:
    pairs = [part.split("=", 1) for part in below.parts[:-1] if "=" in part]
    partition = {key: None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value) for key, value in pairs}
    return TableFile(address, table_format(below)[0], str(below), partition, size, version)
