"""Writing files whole or not at all, one process at a time, and knowing them by their SHA-256."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from mmgcs.errors import UsageError

LOCK = ".lock"
"""The file in a folder by which `alone` tells who writes there."""


@contextlib.contextmanager
def atomic_path(path: Path, *, like: Path | None = None, times: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` when the block ends without an error.

    The temporary file is removed when the block raises, so a reader sees the old file or the whole new one.

    Args:
        path: the file to write.
        like: a file whose owner, mode and extended attributes the new one takes; without it, it is as any new file
            of this user.
        times: take over the times of `like` too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("r+b") as written:  # Windows flushes only what may be written
            os.fsync(written.fileno())
        if like is not None:
            status = like.stat()
            with contextlib.suppress(OSError):  # only root gives a file away
                os.chown(temporary, status.st_uid, status.st_gid)
            shutil.copystat(like, temporary)
            if not times:
                os.utime(temporary)
        else:
            # mkstemp makes the file private; a result is as readable as any new file of this user.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_writer(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file for writing (UTF-8 text, or binary with mode "wb") that replaces `path` at the end."""
    with (
        atomic_path(path) as temporary,
        temporary.open(mode, encoding=None if "b" in mode else "utf-8", newline=None if "b" in mode else "") as handle,
    ):
        yield handle
        handle.flush()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, whole or not at all."""
    with atomic_writer(path) as handle:
        json.dump(value, handle, indent=2, ensure_ascii=False, allow_nan=False)
        handle.write("\n")


def remove_parts(folder: Path, name: str) -> None:
    """Remove what killed processes left in a folder of the files they were writing, whose names fit the pattern."""
    for part in folder.glob(f".{name}.*.part"):
        with contextlib.suppress(OSError):
            part.unlink()


@contextlib.contextmanager
def alone(folder: Path, what: str | None = None) -> Iterator[None]:
    """Keep other processes that ask the same from writing into a folder, until the block or this process ends.

    Args:
        folder: the folder; made where it is missing. While the block runs it holds a file `.lock`.
        what: what is written, for the error; the folder without it.

    Raises:
        UsageError: another process is at it.
        OSError: the folder cannot be made or written.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = (folder / LOCK).open("a")
        except FileNotFoundError:
            continue  # the process that had it ended between the two lines and took the folder along
        with handle:
            _lock(handle, what or str(folder))
            if not _is_at(handle, folder / LOCK):
                continue  # it is the lock of a process that ended meanwhile
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    (folder / LOCK).unlink()
            return


def _lock(handle: IO[Any], what: str) -> None:
    """Lock an open file; the system unlocks it when it is closed or the process ends in any way."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UsageError(f"another mmgcs is writing {what}; wait for it to end") from None


def _is_at(handle: IO[Any], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
