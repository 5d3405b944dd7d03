"""Read and write files: only regular files, written whole or not at all, by one process at a time."""

from __future__ import annotations

import codecs
import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, BinaryIO

from mmgcs.errors import UsageError

LOCK = ".lock"
"""The file that `lock_folder` locks."""


@contextlib.contextmanager
def atomic_path(
    path: Path,
    *,
    like: Path | None = None,
    times: bool = False,
    commit: Callable[[Path, Path], object] = Path.replace,
) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` when the block ends without an error.

    It is removed if the block raises, so a reader sees either the old file or the complete new one.

    Args:
        path: the file to write.
        like: a file to copy the owner, mode and extended attributes from; None for the defaults.
        times: also copy the times of `like`.
        commit: moves the finished temporary file to `path`; called with both.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # With `like`, private until it gets that mode; otherwise the usual mode from the start.
    temporary = _new_part(path, 0o666 if like is None else 0o600)
    try:
        yield temporary
        with temporary.open("r+b") as written:  # Windows only flushes files open for writing
            os.fsync(written.fileno())
        if like is not None:
            status = like.stat()
            if hasattr(os, "chown"):  # not on Windows
                with contextlib.suppress(OSError):  # only to a group that this user is in
                    os.chown(temporary, -1, status.st_gid)
                with contextlib.suppress(OSError):  # only root may change the owner
                    os.chown(temporary, status.st_uid, -1)
            shutil.copystat(like, temporary)
            if not times:
                os.utime(temporary)
        commit(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _new_part(path: Path, mode: int) -> Path:
    """Create an empty temporary file next to `path`, with this mode less the umask."""
    while True:
        temporary = path.with_name(f".{_short(path.name)}.{os.urandom(4).hex()}.part")
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode))
        except FileExistsError:
            continue
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None
        return temporary


def _short(name: str) -> str:
    """Shorten a name to about 20 characters, so that the name of a temporary file still fits."""
    path = Path(name)
    if len(path.stem) <= 20 and len(path.suffix) <= 10:
        return name
    return f"{path.stem[:20]}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}{path.suffix[:10]}"


@contextlib.contextmanager
def atomic_writer(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file, for UTF-8 text or with mode "wb" for bytes, that replaces `path` at the end."""
    with (
        atomic_path(path) as temporary,
        temporary.open(mode, encoding=None if "b" in mode else "utf-8", newline=None if "b" in mode else "") as handle,
    ):
        yield handle
        handle.flush()


def open_file(path: Path) -> BinaryIO:
    """Open a regular file to read its bytes. A pipe or device is refused: it could block, or never end.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    handle = open(path, "rb", opener=_without_waiting)  # noqa: SIM115  the caller closes it
    if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
        handle.close()
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file")
    return handle


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # opening a pipe would wait for a writer


def read_file(path: Path, most: int) -> bytes:
    """Read a file, but at most one byte more than `most`, so that the caller can tell if it is longer.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    with open_file(path) as handle:
        return handle.read(min(most, os.fstat(handle.fileno()).st_size) + 1)


def check_free(path: Path, option: str, *, overwrite: bool) -> None:
    """Check, before any work is done, that a file may be written.

    Args:
        path: the file to write.
        option: the option that names it, such as "--out".
        overwrite: True if it may be replaced.

    Raises:
        UsageError: the file exists and may not be replaced, or `path` is a folder.
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
    """Remove temporary files that killed processes left in a folder, for files whose names match the pattern."""
    for part in folder.glob(f".{pattern}.*.part"):
        with contextlib.suppress(OSError):
            part.unlink()


def remove_parts_of(path: Path) -> None:
    """Remove temporary files that killed processes left for one file."""
    remove_parts(path.parent, glob.escape(_short(path.name)))


@contextlib.contextmanager
def lock_folder(folder: Path, what: str | None = None) -> Iterator[None]:
    """Lock a folder against other mmgcs processes until the block or this process ends.

    Args:
        folder: the folder; created if missing. It holds a file `.lock` while the block runs.
        what: what is being written, for the error message; by default the folder.

    Raises:
        UsageError: another process holds the lock.
        OSError: the folder cannot be created or written.
    """
    from filelock import FileLock, Timeout  # a prediction needs no lock

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(f"another mmgcs is writing {what or folder}; wait for it to end") from None
    removed = False
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()
            removed = True
        lock.release()
        if not removed:  # Windows cannot remove a file while it is open
            with contextlib.suppress(OSError):
                (folder / LOCK).unlink()


def is_inside(name: str) -> bool:
    """Return True if a relative path stays below its folder, both here and on Windows.

    Names with a drive are refused on every system, as files written on one may be read on another.

    >>> is_inside("Alien: Covenant/movie.nfo"), is_inside("../secret"), is_inside("C:secret"), is_inside("\\\\secret")
    (True, False, False, False)
    """
    paths = (PurePosixPath(name), PureWindowsPath(name))
    return "\0" not in name and all(path.parts and not path.anchor and ".." not in path.parts for path in paths)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def text_encoding(start: bytes) -> str:
    """Return the encoding of text by its first bytes: "utf-8", "utf-8-sig", "utf-16", "utf-16-le" or "utf-16-be"."""
    if start.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    first, second = start[::2], start[1::2]
    if second.count(0) > 0.6 * len(second) and not first.count(0):
        return "utf-16-le"  # without a byte order mark; every other byte of Latin text is zero
    return "utf-16-be" if first.count(0) > 0.6 * len(first) and not second.count(0) else "utf-8"


def decode_text(data: bytes) -> str:
    """Decode text in UTF-8 or UTF-16, with or without a byte order mark; anything else as Windows-1252.

    >>> decode_text("café".encode("utf-16")), decode_text("café".encode("cp1252"))
    ('café', 'café')
    """
    encoding = text_encoding(data[:4096])
    try:
        return data.decode(encoding, "replace" if encoding.startswith("utf-16") else "strict")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")
