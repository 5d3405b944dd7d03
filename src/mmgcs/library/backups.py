"""Writing into somebody's library so that every file can be brought back as it was.

`.mmgcs/` in the library holds a copy of each file from before it was first changed, and `journal.jsonl`, which says
what was written where. Both are on disk before a file is replaced, so a process that is killed at any moment leaves
every file whole, old or new, and `restore` knows which.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PureWindowsPath
from typing import Any

from mmgcs.errors import InputError, MmgcsError, UsageError
from mmgcs.files import alone, atomic_path, is_inside, remove_parts, remove_parts_of, sha256
from mmgcs.library.scan import STATE

JOURNAL = "journal.jsonl"
# Media centres pass over folders with these, so that the copies never show up as films.
MARKERS = (".ignore", ".nomedia", ".plexignore")


@dataclass(slots=True)
class Entry:
    """A file that was written and not yet brought back.

    Attributes:
        path: relative to the library.
        before: the SHA-256 that it had before the first change; None where there was no file.
        backup: the name of its copy in the state folder; None where there was no file.
        known: the SHA-256 of everything that was written to it since.
    """

    path: str
    before: str | None
    backup: str | None
    known: set[str] = field(default_factory=set)


class Backups:
    """The copies and the journal of the library in the folder `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / STATE
        self.journal = self.folder / JOURNAL
        self._entries = self._read_journal()

    def entries(self) -> list[Entry]:
        """The files that were changed and not brought back, in the order of their first change."""
        return list(self._entries.values())

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out of this library.

        Raises:
            UsageError: another run is at work, or the library cannot be written to.
        """
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(exist_ok=True)
                for name in MARKERS:
                    (self.folder / name).touch()
                stack.enter_context(alone(self.folder, f"in {self.root}"))
            except OSError as error:
                raise UsageError(
                    f"{self.folder} cannot be written ({error.strerror}), and without copies nothing is changed; "
                    "make the library writable"
                ) from error
            self._entries = self._read_journal()  # what another run wrote meanwhile
            remove_parts(self.folder, "*")
            yield

    def write(self, path: Path, make: Callable[[bytes], bytes], *, expected: str | None) -> None:
        """Replace the content of a file, or create it, with a copy kept of what was there.

        Args:
            path: the file, in the library. A link is followed, its target is written.
            make: gets the bytes that are there (none for a new file) and returns those to write.
            expected: the SHA-256 that the file had when it was read; None where there was no file.

        Raises:
            InputError: the file is another one than was read, or cannot be written; it is as it was.
            MmgcsError: the copy or the journal cannot be written: no further file may be touched.
        """
        if not is_inside(self._relative(path)):
            raise InputError("its path has a '..' between backslashes, which undo refuses; rename its folder")
        target = path.resolve()
        try:
            content = target.read_bytes() if target.exists() else None
        except OSError as error:
            raise InputError(f"cannot be read ({error.strerror})") from error
        before = None if content is None else hashlib.sha256(content).hexdigest()
        if before != expected:
            raise InputError("it was changed since it was read; run again")
        if not os.access(target.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise InputError("its folder cannot be written; change its permissions")
        result = make(content or b"")
        after = hashlib.sha256(result).hexdigest()
        try:
            backup = self._keep(path, target, before)
            self._note(path, before=before, after=after, backup=backup)
        except OSError as error:
            raise MmgcsError(
                f"the copy of {path} cannot be written ({error.strerror}), so it and all further films are left alone; "
                "mend that and run again"
            ) from error
        try:
            remove_parts_of(target)
            _replace(target, result, like=target if content is not None else None)
        except OSError as error:
            raise InputError(f"cannot be written ({error.strerror}); it is as it was") from error

    def restore(self, entry: Entry, *, force: bool = False, follow: bool = False) -> str:
        """Bring back a file as it was before its first change, with its owner, mode and time.

        Args:
            entry: what was noted of it.
            force: it is replaced although someone else changed or removed it since.
            follow: it may lie outside the library, where a link leads to.

        Returns:
            "restored", "removed" for a file that was created, or "unchanged" where it is already as it was.

        Raises:
            InputError: the file was changed or removed by someone else since, a link leads to it out of the library,
                its copy is lost or damaged, or it cannot be written.
        """
        path = self.root / entry.path
        try:
            target = Path(os.path.realpath(path))
            # A journal can be forged: in a library that came from elsewhere, links and it could name any file.
            if not follow and not target.is_relative_to(os.path.realpath(self.root)):
                raise InputError(f"a link leads out of the library, to {target}; if that is yours, use --follow-links")
            remove_parts_of(target)
            now = sha256(target) if target.exists() else None
            if now == entry.before:
                outcome = "unchanged"
            elif now not in entry.known and not force:
                what = "removed" if now is None else "changed"
                raise InputError(f"it was {what} since; look at it, then use --force to bring back the old one anyway")
            elif entry.backup is None:
                target.unlink()
                outcome = "removed"
            else:
                self._bring_back(entry, target)
                outcome = "restored"
            self._note(path, undone=True)
            if entry.backup is not None:
                (self.folder / entry.backup).unlink(missing_ok=True)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot be brought back ({getattr(error, 'strerror', None) or error})") from error
        return outcome

    def _bring_back(self, entry: Entry, target: Path) -> None:
        assert entry.backup is not None
        copy = self.folder / entry.backup
        try:
            content = copy.read_bytes()
        except OSError as error:
            raise InputError(f"its copy {copy} cannot be read ({error.strerror})") from error
        if hashlib.sha256(content).hexdigest() != entry.before:
            raise InputError(f"its copy {copy} is damaged")
        _replace(target, content, like=copy, times=True)

    def _keep(self, path: Path, target: Path, before: str | None) -> str | None:
        """Copy a file that has no copy yet, or that someone changed since. Returns the copy's name."""
        if before is None:
            return None
        entry = self._entries.get(self._relative(path))
        if entry is not None and entry.backup and (before == entry.before or before in entry.known):
            return entry.backup
        name = hashlib.sha256(os.fsencode(self._relative(path)) + before.encode()).hexdigest()[:32] + ".bak"
        copy = self.folder / name
        if not copy.exists():
            _replace(copy, target.read_bytes(), like=target, times=True)
            if sha256(copy) != before:
                copy.unlink()
                raise InputError("it was changed since it was read; run again")
        return name

    def _note(self, path: Path, **what: Any) -> None:
        """Append a line to the journal and wait until it is on disk."""
        line = {"path": self._relative(path), **what, "time": datetime.now(UTC).isoformat(timespec="seconds")}
        # ASCII keeps names that are not UTF-8: their odd bytes are lone surrogates, which JSON can escape.
        content = json.dumps(line).encode("ascii") + b"\n"
        with self.journal.open("a+b") as handle:
            if handle.tell():
                handle.seek(-1, os.SEEK_END)
                if handle.read(1) != b"\n":  # the last run was killed while it wrote a line
                    content = b"\n" + content
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        _apply_line(self._entries, line)

    def _relative(self, path: Path) -> str:
        name = path.relative_to(self.root).as_posix()
        # "X: The Man/movie.nfo" is a legal name on Linux and leads to drive X on Windows; with "./" it never does.
        return name if is_inside(name) else f"./{name}"

    def _read_journal(self) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        try:
            lines = self.journal.read_bytes().split(b"\n")
        except FileNotFoundError:
            return entries
        except OSError as error:
            raise MmgcsError(f"{self.journal} cannot be read ({error.strerror}); make it readable") from error
        for raw in lines:
            with contextlib.suppress(ValueError):  # a line that was cut by a kill: its file was not yet touched
                line = json.loads(raw)
                if isinstance(line, dict) and _is_inside(line):
                    _apply_line(entries, line)
        return entries


def _is_inside(line: dict[str, Any]) -> bool:
    # A journal that somebody else wrote must not make `undo` write or remove files elsewhere.
    path, backup = line.get("path"), line.get("backup")
    return isinstance(path, str) and is_inside(path) and (backup is None or _is_name(backup))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and is_inside(value) and PureWindowsPath(value).name == value


def _apply_line(entries: dict[str, Entry], line: dict[str, Any]) -> None:
    path = line["path"]
    if line.get("undone"):
        entries.pop(path, None)
        return
    entry = entries.get(path)
    # Another copy means that someone else changed the file in between: what they left is the new original.
    if entry is None or entry.backup != line.get("backup"):
        entry = entries[path] = Entry(path, line.get("before"), line.get("backup"))
    entry.known.add(str(line.get("after")))


def _replace(target: Path, content: bytes, *, like: Path | None, times: bool = False) -> None:
    with atomic_path(target, like=like, times=times) as temporary:
        temporary.write_bytes(content)
