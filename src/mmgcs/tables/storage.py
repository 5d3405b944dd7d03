"""Folders on a disk or in an object store, by address: `films/`, `s3://bucket/films` and whatever fsspec supports."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mmgcs.errors import UsageError
from mmgcs.files import atomic_writer

_REMOTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(?=[^/])")
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}


def is_remote(address: str | Path) -> bool:
    """Return True for the address of an object store or another URL."""
    return _REMOTE.match(str(address)) is not None


def normal_address(address: str | Path) -> str:
    """Return a path as it is, and a URL with both slashes, of which a Path keeps one.

    >>> normal_address(Path("s3://films/2024"))
    's3://films/2024'
    """
    return _REMOTE.sub(r"\1://", str(address), count=1)


def file_system(address: str) -> tuple[Any, str]:
    """Return fsspec's file system of an address, and the path in it.

    Raises:
        UsageError: nothing is installed for this kind of address.
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
    """A folder anywhere. Objects in it are written whole or not at all.

    Attributes:
        address: its address.
        local: True if it is on a disk of this machine.
    """

    def __init__(self, address: str | Path) -> None:
        """Raises UsageError if nothing is installed for the kind of address."""
        self.address = normal_address(address).rstrip("/")
        self._files, self._root = file_system(self.address)
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
        else:
            self._files.pipe_file(self.path(name), data)  # object stores show an object only when it is whole

    def names(self, below: str = "") -> list[str]:
        """Return the names of the objects in the folder, or in one below it; none if it does not exist."""
        with contextlib.suppress(FileNotFoundError):
            self._files.invalidate_cache()
            found = self._files.ls(self.path(below), detail=False)
            return sorted(PurePosixPath(name).name for name in found)
        return []

    def remove(self) -> None:
        """Remove the folder with everything in it."""
        with contextlib.suppress(FileNotFoundError):
            self._files.rm(self._root, recursive=True)
