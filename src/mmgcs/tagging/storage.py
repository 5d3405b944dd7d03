"""Folders on a disk or in an object store, by address: `films/`, `s3://bucket/films` and whatever fsspec supports."""

from __future__ import annotations

import contextlib
from pathlib import Path, PurePosixPath

import fsspec
from fsspec.core import url_to_fs

from mmgcs.errors import UsageError
from mmgcs.files import atomic_writer


class Folder:
    """A folder anywhere. Objects in it are written whole or not at all."""

    def __init__(self, address: str) -> None:
        """Raises UsageError if nothing is installed for the kind of address."""
        self.address = address.rstrip("/")
        try:
            self._files, self._root = url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise UsageError(f"{address} cannot be reached ({error}); install what its scheme needs") from None
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


def parent(address: str) -> str:
    """Return the address of the folder that a file is in."""
    scheme, mark, path = address.rpartition("://")
    return f"{scheme}{mark}{PurePosixPath(path).parent}"
