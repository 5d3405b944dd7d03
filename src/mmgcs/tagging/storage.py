"""Folders on a disk or in an object store, by address: `films/`, `s3://bucket/films` and whatever fsspec supports."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from mmgcs.errors import UsageError
from mmgcs.files import atomic_writer
from mmgcs.tables import READERS, table_format


@dataclass(frozen=True, slots=True)
class Shard:
    """One table of films.

    Attributes:
        address: its path or URL.
        size: its bytes.
        version: its ETag or modification time, which differs once it was changed.
    """

    address: str
    size: int
    version: str


class Folder:
    """A folder anywhere. Objects in it are written whole or not at all."""

    def __init__(self, address: str) -> None:
        """Raises UsageError if nothing is installed for the kind of address."""
        self.address = address.rstrip("/")
        self._files, self._root = _opened(self.address)
        self.local = isinstance(self._files, fsspec.get_filesystem_class("file"))

    def path(self, name: str) -> str:
        """Return the path of an object, without the scheme."""
        return str(PurePosixPath(self._root) / name)

    def read(self, name: str) -> bytes:
        """Return an object's bytes. Raises FileNotFoundError."""
        data: bytes = self._files.cat_file(self.path(name))
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write an object."""
        if self.local:
            with atomic_writer(Path(self.path(name)), "wb") as handle:
                handle.write(data)
        else:
            self._files.pipe_file(self.path(name), data)  # object stores show an object only when it is whole

    def names(self, below: str = "") -> list[str]:
        """Return the names of the objects in the folder, or in one below it; none if it does not exist."""
        with contextlib.suppress(FileNotFoundError):
            self._files.invalidate_cache()
            found = self._files.ls(self.path(below) if below else self._root, detail=False)
            return sorted(PurePosixPath(name).name for name in found)
        return []

    def remove(self, below: str = "") -> None:
        """Remove the folder, or one below it, with everything in it."""
        with contextlib.suppress(FileNotFoundError):
            self._files.rm(self.path(below) if below else self._root, recursive=True)


def _opened(address: str) -> tuple[Any, str]:
    try:
        files, path = url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{address} cannot be reached ({error}); install what its scheme needs") from None
    return files, str(path)


def find_shards(address: str) -> list[Shard]:
    """Return the tables at an address (a file, a folder, or a pattern such as `films/part-*.parquet`), by name.

    Raises:
        UsageError: there are none.
    """
    files, path = _opened(address)
    scheme = "" if isinstance(files, fsspec.get_filesystem_class("file")) else f"{address.partition('://')[0]}://"
    if "*" in path or "?" in path:
        found = files.glob(path, detail=True)
    elif files.isdir(path):
        found = {entry["name"]: entry for entry in files.ls(path, detail=True)}
    else:
        found = {path: files.info(path)} if files.exists(path) else {}
    shards = [
        Shard(scheme + name, int(entry["size"]), str(entry.get("ETag") or entry.get("mtime") or ""))
        for name, entry in sorted(found.items())
        if entry["type"] == "file" and table_format(Path(name))[0] in READERS and not Path(name).name.startswith(".")
    ]
    if not shards:
        raise UsageError(f"there is no table of films at {address}; give a CSV, JSONL or Parquet file or a folder")
    return shards


@contextlib.contextmanager
def local_copy(shard: Shard, folder: Path) -> Iterator[Path]:
    """Yield the shard as a file: itself if it is on this machine, else a temporary copy in `folder`."""
    files, path = _opened(shard.address)
    if isinstance(files, fsspec.get_filesystem_class("file")):
        yield Path(path)
        return
    copy = folder / PurePosixPath(path).name
    files.get_file(path, str(copy))
    try:
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def parent(address: str) -> str:
    """Return the address of the folder that a file is in."""
    scheme, mark, path = address.rpartition("://")
    return f"{scheme}{mark}{PurePosixPath(path).parent}"
