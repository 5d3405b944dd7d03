"""Read and write files: regular files only, written completely or not at all, by one process at a time."""

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

    The temporary file is removed if the block raises, so a reader sees the old file or the complete new one.

    Args:
        path: the file to write.
        like: a file whose owner, mode and extended attributes the new one gets; None for those of any new file.
        times: also copy the times of `like`.
        commit: puts the finished temporary file in place of `path`; called with both.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Private until it has the mode of `like`; otherwise with the usual mode from the start.
    temporary = _new_part(path, 0o666 if like is None else 0o600)
    try:
        yield temporary
        with temporary.open("r+b") as written:  # Windows only flushes files open for writing
            os.fsync(written.fileno())
        if like is not None:
            status = like.stat()
            if hasattr(os, "chown"):  # not on Windows
                with contextlib.suppress(OSError):  # only root may change the owner
                    os.chown(temporary, status.st_uid, status.st_gid)
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
        with contextlib.suppress(FileExistsError):
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode))
            return temporary


def _short(name: str) -> str:
    """Return the name with at most 20 characters before the extension, so that a longer name made of it still fits."""
    path = Path(name)
    if len(path.stem) <= 20 and len(path.suffix) <= 10:
        return name
    return f"{path.stem[:20]}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}{path.suffix[:10]}"


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
    """Return the bytes of a file, at most one more than `most`, so that the caller notices a longer file.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    with open_file(path) as handle:
        return handle.read(min(most, os.fstat(handle.fileno()).st_size) + 1)


def check_free(path: Path, option: str, *, overwrite: bool) -> None:
    """Refuse to overwrite an existing file without permission, before any work is done.

    Args:
        path: the file to write.
        option: the option that names it, such as "--out".
        overwrite: permission to replace it.

    Raises:
        UsageError: the file exists, or `path` is a folder.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give {option} a file")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; give --overwrite to replace it, or another {option}")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, completely or not at all."""
    with atomic_writer(path) as handle:
        json.dump(value, handle, indent=2, ensure_ascii=False, allow_nan=False)
        handle.write("\n")


def remove_parts(folder: Path, pattern: str) -> None:
    """Remove the temporary files of killed processes in a folder, for files whose names match the pattern."""
    for part in folder.glob(f".{pattern}.*.part"):
        with contextlib.suppress(OSError):
            part.unlink()


def remove_parts_of(path: Path) -> None:
    """Remove the temporary files of killed processes for this one file."""
    remove_parts(path.parent, glob.escape(_short(path.name)))


@contextlib.contextmanager
def lock_folder(folder: Path, what: str | None = None) -> Iterator[None]:
    """Keep other mmgcs processes from writing into a folder, until the block or this process ends.

    Args:
        folder: the folder; created if missing. While the block runs, it has a file `.lock`.
        what: what is written, for the error; None for the folder itself.

    Raises:
        UsageError: another process has the lock.
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

    Names with a drive are refused on every system: files written here may be read there.

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
        return "utf-16-le"  # without its mark; Latin letters have a zero byte each
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
