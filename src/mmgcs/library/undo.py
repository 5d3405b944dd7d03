"""Change files of a library so that each can be restored exactly.

`.mmgcs/` in the library holds a backup of each changed file, and `journal.jsonl`, which records what each run wrote and
where. Both are on disk before a file is replaced, so a process that is killed at any moment leaves every file complete,
either old or new, and `restore` knows which.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PureWindowsPath
from typing import Any

from mmgcs.errors import InputError, MmgcsError, UsageError
from mmgcs.files import atomic_path, is_inside, lock_folder, remove_parts, remove_parts_of, sha256

STATE = ".mmgcs"
"""The folder in a library that holds the backups, the journal and the settings."""
CHANGED = "another program changed it after it was read; run again"


@dataclass(frozen=True, slots=True)
class Write:
    """One line of the journal: a file was replaced.

    Attributes:
        before: the SHA-256 of the old content; None if there was no file.
        after: the SHA-256 of the new content.
        backup: the backup's name in the state folder; None if there was no file.
        run: the run that wrote.
    """

    before: str | None
    after: str
    backup: str | None
    run: str


class Backups:
    """The backups and the journal of the library in the folder `root`.

    Attributes:
        writes: for each changed file (by its path in the library, in order of the first change), the writes that were
            not undone, oldest first. The `before` of the first is the original.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / STATE
        self.journal = self.folder / "journal.jsonl"
        self.run = ""
        self.writes = self._read_journal()

    def runs(self) -> dict[str, int]:
        """Return the runs that can be undone, oldest first, with the number of files each changed."""
        of_files = [{write.run for write in writes} for writes in self.writes.values()]
        return {run: sum(run in runs for runs in of_files) for run in sorted(set().union(*of_files))}

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out of this library, and begin a run.

        Raises:
            UsageError: another run is in progress, or the library cannot be written to.
        """
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(exist_ok=True)
                # Media servers skip folders with these files, so that the backups never show up as films.
                for name in (".ignore", ".nomedia", ".plexignore"):
                    (self.folder / name).touch()
                stack.enter_context(lock_folder(self.folder, f"in {self.root}"))
            except OSError as error:
                raise UsageError(
                    f"{self.folder} cannot be written ({error.strerror}), and nothing is changed without backups; "
                    "make the library writable"
                ) from error
            self.writes = self._read_journal()  # another run may have written in the meantime
            remove_parts(self.folder, "*")
            start, runs = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), self.runs()
            names = (start, *(f"{start}-{number}" for number in range(2, len(runs) + 3)))
            self.run = next(name for name in names if name not in runs)
            yield

    def write(self, path: Path, new: bytes | Callable[[bytes], bytes], *, expected: str | None) -> None:
        """Replace or create a file, after a backup of its old content.

        Args:
            path: the file, in the library. If it is a link, its target is written.
            new: the bytes to write, or a function from the old bytes (b"" for a new file) to the new ones.
            expected: the SHA-256 that the file had when it was read; None if there was no file.

        Raises:
            InputError: another program changed the file in the meantime, or it cannot be written; it is unchanged.
            MmgcsError: the backup or the journal cannot be written, so no more files may be changed.
        """
        name = self._relative(path)
        if not is_inside(name):
            raise InputError("its path has a '..' between backslashes, which undo rejects; rename its folder")
        target = path.resolve()
        try:
            content = target.read_bytes() if target.exists() else None
        except OSError as error:
            raise InputError(f"cannot be read ({error.strerror})") from error
        if expected != (None if content is None else hashlib.sha256(content).hexdigest()):
            raise InputError(CHANGED)
        result = new if isinstance(new, bytes) else new(content or b"")
        after = hashlib.sha256(result).hexdigest()
        earlier = len(self.writes.get(name, ()))
        try:
            backup = None if expected is None else self._keep(name, target, content or b"", expected)
            self._note(name, before=expected, after=after, backup=backup, run=self.run)
        except OSError as error:
            raise MmgcsError(
                f"the backup of {path} cannot be written ({error.strerror}), so no more films are changed; "
                "fix that and run again"
            ) from error
        try:
            remove_parts_of(target)
            _replace(target, result, expected, like=target if content is not None else None)
        except (OSError, InputError) as error:
            with contextlib.suppress(OSError):  # undo copes with a journal entry for a write that never happened
                self._note(name, undone=True, writes=earlier)
                self._drop({backup})
            if isinstance(error, InputError):
                raise
            raise InputError(f"cannot be written ({error.strerror}); it is unchanged") from error

    def restore(self, name: str, *, run: str | None = None, force: bool = False, follow: bool = False) -> str:
        """Restore a file with its owner, mode and times.

        Args:
            name: the file, a key of `writes`.
            run: undo what this run wrote; None for everything.
            force: replace the file even if another program changed or removed it since.
            follow: also replace a file outside the library that a link leads to.

        Returns:
            "restored", "removed" if the file had been created, or "unchanged" if there was nothing to restore.

        Raises:
            InputError: the file was changed or removed by another program or a later run, a link leads out of the
                library, its backup is lost or damaged, or it cannot be written.
        """
        writes = self.writes[name]
        first = 0 if run is None else next(number for number, write in enumerate(writes) if write.run == run)
        undone = writes[first:]
        original = undone[0]
        if run is not None and undone[-1].run != run:
            raise InputError(f"it was changed again by the run {undone[-1].run}; undo that run first")
        try:
            target = Path(os.path.realpath(self.root / name))
            # In a library that came from elsewhere, the journal and links may be forged to name any file.
            if not follow and not target.is_relative_to(os.path.realpath(self.root)):
                raise InputError(f"a link leads out of the library, to {target}; if that is yours, use --follow-links")
            remove_parts_of(target)
            now = sha256(target) if target.exists() else None
            if now == original.before:
                outcome = "unchanged"
            elif now not in {write.after for write in undone} and not force:
                what = "removed" if now is None else "changed"
                raise InputError(f"it was {what} in the meantime; check it, then use --force to restore it anyway")
            elif original.backup is None:
                target.unlink()
                outcome = "removed"
            else:
                copy = self.folder / original.backup
                content = copy.read_bytes()
                if hashlib.sha256(content).hexdigest() != original.before:
                    raise InputError(f"its backup {copy} is damaged")
                _replace(target, content, now, like=copy, times=True)
                outcome = "restored"
            self._note(name, undone=True, writes=first)
            self._drop({write.backup for write in undone})
        except OSError as error:
            raise InputError(f"cannot be restored ({error.strerror}: {error.filename or name})") from error
        return outcome

    def _keep(self, name: str, target: Path, content: bytes, checksum: str) -> str:
        """Back up a file that is about to be changed, with its times. Returns the backup's name."""
        backup = hashlib.sha256(os.fsencode(name) + checksum.encode()).hexdigest()[:32] + ".bak"
        copy = self.folder / backup
        if not copy.exists():
            with atomic_path(copy, like=target, times=True) as temporary:
                temporary.write_bytes(content)
        return backup

    def _drop(self, backups: set[str | None]) -> None:
        """Remove backups that no write in the journal needs."""
        for name in backups - {write.backup for writes in self.writes.values() for write in writes}:
            if name is not None:
                (self.folder / name).unlink(missing_ok=True)

    def _note(self, name: str, **what: Any) -> None:
        """Append a line to the journal and wait until it is on disk."""
        line = {"path": name, **what, "time": datetime.now(UTC).isoformat(timespec="seconds")}
        # ASCII keeps names that are not UTF-8: JSON escapes the lone surrogates that stand for their bytes.
        content = json.dumps(line).encode("ascii") + b"\n"
        with self.journal.open("a+b") as handle:
            if handle.tell():
                handle.seek(-1, os.SEEK_END)
                if handle.read(1) != b"\n":  # the last run was killed while it wrote a line
                    content = b"\n" + content
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        _apply_line(self.writes, line)

    def _relative(self, path: Path) -> str:
        name = path.relative_to(self.root).as_posix()
        # "X: The Man/movie.nfo" is a legal name on Linux and leads to drive X on Windows; with "./" it never does.
        return name if is_inside(name) else f"./{name}"

    def _read_journal(self) -> dict[str, list[Write]]:
        writes: dict[str, list[Write]] = {}
        for raw in self.journal.read_bytes().split(b"\n") if self.journal.exists() else ():
            with contextlib.suppress(ValueError):  # a line cut short by a kill: its file was not touched yet
                line = json.loads(raw)
                if isinstance(line, dict) and _is_safe(line):
                    _apply_line(writes, line)
        return writes


def _is_safe(line: dict[str, Any]) -> bool:
    # A journal written by someone else must not make `undo` write or remove files elsewhere.
    path, backup = line.get("path"), line.get("backup")
    if not (isinstance(path, str) and is_inside(path)):
        return False
    return backup is None or (isinstance(backup, str) and is_inside(backup) and PureWindowsPath(backup).name == backup)


def _apply_line(files: dict[str, list[Write]], line: dict[str, Any]) -> None:
    name = line["path"]
    writes = files.setdefault(name, [])
    if line.get("undone"):
        remaining = line.get("writes")
        del writes[remaining if isinstance(remaining, int) and remaining > 0 else 0 :]
    else:
        write = Write(line.get("before"), str(line.get("after")), line.get("backup"), str(line.get("run", "")))
        # If another program changed the file in between, its version is the new original.
        if writes and write.before not in {writes[0].before, *(known.after for known in writes)}:
            writes.clear()
        writes.append(write)
    if not writes:
        del files[name]


def _replace(target: Path, content: bytes, expected: str | None, *, like: Path | None, times: bool = False) -> None:
    """Replace a file if its SHA-256 is still `expected` (None: there must be no file)."""
    after = hashlib.sha256(content).hexdigest()
    with atomic_path(
        target, like=like, times=times, commit=lambda temporary, _: _swap(temporary, target, expected, after)
    ) as temporary:
        temporary.write_bytes(content)


def _swap(temporary: Path, target: Path, expected: str | None, after: str) -> None:
    """Put a finished file in its place; if another program wrote there at the last moment, put its version back.

    Raises:
        InputError: another program wrote; its file is in place.
    """
    if expected is None:
        try:
            os.link(temporary, target)  # unlike a rename, it never replaces a file
        except FileExistsError:
            raise InputError(CHANGED) from None
        except OSError:  # a disk without hard links
            if target.exists():
                raise InputError(CHANGED) from None
            temporary.replace(target)
        temporary.unlink(missing_ok=True)
        return
    if not target.exists() or sha256(target) != expected:
        raise InputError(CHANGED)
    replaced = temporary
    if not _exchange(temporary, target):
        replaced = temporary.with_name(f"{temporary.name.removesuffix('.part')}.old.part")
        with contextlib.suppress(OSError):  # a disk without hard links
            os.link(target, replaced)
            if not replaced.samefile(target):
                replaced.unlink()
                raise InputError(CHANGED)
        temporary.replace(target)
    if replaced.exists() and sha256(replaced) != expected and sha256(target) == after:
        replaced.replace(target)
        raise InputError(CHANGED)
    replaced.unlink(missing_ok=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two files in one step; return False if this system or disk cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):  # another C library
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(renameat2(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0)
