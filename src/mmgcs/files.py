"""Reading and writing files: never a pipe, whole or not at all, one process at a time, known by their SHA-256."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, BinaryIO

from mmgcs.errors import UsageError

LOCK = ".lock"
"""The file in a folder by which `alone` tells who writes there."""
LONGEST = 120
"""Bytes of a file's name that the name of its temporary file repeats: most disks take names of 255 bytes, encrypted
folders (eCryptfs, on many network disks) of 143."""


@contextlib.contextmanager
def atomic_path(
    path: Path,
    *,
    like: Path | None = None,
    times: bool = False,
    commit: Callable[[Path, Path], object] = Path.replace,
) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` when the block ends without an error.

    The temporary file is removed when the block raises, so a reader sees the old file or the whole new one.

    Args:
        path: the file to write.
        like: a file whose owner, mode and extended attributes the new one takes; without it, it is as any new file
            of this user.
        times: take over the times of `like` too.
        commit: put the finished temporary file in place of `path`; called with both.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Private until it has the mode of `like`; else the system gives it the mode of any new file of this user.
    temporary = _new_part(path, 0o666 if like is None else 0o600)
    try:
        yield temporary
        with temporary.open("r+b") as written:  # Windows flushes only what may be written
            os.fsync(written.fileno())
        if like is not None:
            status = like.stat()
            if hasattr(os, "chown"):  # not on Windows
                with contextlib.suppress(OSError):  # only root gives a file away
                    os.chown(temporary, status.st_uid, status.st_gid)
            shutil.copystat(like, temporary)
            if not times:
                os.utime(temporary)
        commit(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _new_part(path: Path, mode: int) -> Path:
    """Make an empty file beside `path`, of this mode less the umask."""
    while True:
        temporary = path.with_name(f".{_short(path.name)}.{os.urandom(4).hex()}.part")
        with contextlib.suppress(FileExistsError):
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode))
            return temporary


def _short(name: str) -> str:
    """The name itself, or one with the same beginning and extension that leaves room for what a leftover adds."""
    if len(os.fsencode(name)) <= LONGEST:
        return name
    start, extension = Path(name).stem, Path(name).suffix
    end = f"~{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
    if len(os.fsencode(extension)) <= LONGEST - len(end):
        end += extension
    while len(os.fsencode(start + end)) > LONGEST:
        start = start[:-1]
    return start + end


@contextlib.contextmanager
def atomic_writer(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file for writing (UTF-8 text, or binary with mode "wb") that replaces `path` at the end."""
    with (
        atomic_path(path) as temporary,
        temporary.open(mode, encoding=None if "b" in mode else "utf-8", newline=None if "b" in mode else "") as handle,
    ):
        yield handle
        handle.flush()


def open_file(path: Path) -> BinaryIO:
    """Open a file to read its bytes, but no pipe and no device: those may keep the reader waiting, or never end.

    Raises:
        OSError: it cannot be opened, or is no file.
    """
    handle = open(path, "rb", opener=_without_waiting)  # noqa: SIM115  the caller closes it
    if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
        handle.close()
        raise OSError(errno.EINVAL, "it is a pipe or a device and no file")
    return handle


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # else a pipe waits here for someone to write


def read_file(path: Path, most: int) -> bytes:
    """The bytes of a file, at most one more than `most`, by which a longer one is told.

    Raises:
        OSError: it cannot be read, or is no file (see `open_file`).
    """
    with open_file(path) as handle:
        return handle.read(min(most, os.fstat(handle.fileno()).st_size) + 1)


def check_free(path: Path, option: str, *, overwrite: bool) -> None:
    """Refuse to write over a file that nobody said may go, before any work is done for it.

    Args:
        path: the file to write.
        option: the option that names it, such as "--out".
        overwrite: it may go.

    Raises:
        UsageError: the file exists, or a folder is there.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give {option} a file")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; give --overwrite to replace it, or another {option}")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, whole or not at all."""
    with atomic_writer(path) as handle:
        json.dump(value, handle, indent=2, ensure_ascii=False, allow_nan=False)
        handle.write("\n")


def remove_parts(folder: Path, pattern: str) -> None:
    """Remove what killed processes left in a folder of the files they were writing, whose names fit the pattern."""
    for part in folder.glob(f".{pattern}.*.part"):
        with contextlib.suppress(OSError):
            part.unlink()


def remove_parts_of(path: Path) -> None:
    """Remove what killed processes left of this one file."""
    import glob  # here: every start would pay for it

    remove_parts(path.parent, glob.escape(_short(path.name)))


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
    lock = folder / LOCK
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            if os.path.lexists(folder):
                raise
            continue  # it was removed while `mkdir` looked what it is
        try:
            handle = lock.open("a")
        except FileNotFoundError:
            continue  # the process that had it ended between the two lines and took the folder along
        left = False
        try:
            with handle:
                _lock(handle, what or str(folder))
                if not _is_at(handle, lock):
                    continue  # it is the lock of a process that ended meanwhile
                try:
                    yield
                finally:
                    left = not _removed(lock)  # while it is ours: once it is closed, it may be another process's
                return
        finally:
            if left:  # Windows removes no file that is open, so this is refused where another process has it by now
                _removed(lock)


def _removed(lock: Path) -> bool:
    """Remove a lock; whether there is no need to try again."""
    try:
        lock.unlink(missing_ok=True)
    except PermissionError:
        return False
    except OSError:
        pass
    return True


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


def is_inside(name: str) -> bool:
    """Whether a relative path that somebody wrote lies below the folder that it is relative to, here and on Windows.

    A drive is one on every system: what is written here may be read there.

    >>> is_inside("Alien: Covenant/movie.nfo"), is_inside("../secret"), is_inside("C:secret"), is_inside("\\\\secret")
    (True, False, False, False)
    """
    paths = (PurePosixPath(name), PureWindowsPath(name))
    return "\0" not in name and all(path.parts and not path.anchor and ".." not in path.parts for path in paths)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
