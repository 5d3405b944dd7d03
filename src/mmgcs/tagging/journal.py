"""The work of an unfinished run on disk: files that only grow, and how far each is good.

A run appends lines to its logs and commits after each chunk. What a kill or a full disk leaves after the last commit is
cut off when the run is continued. One process at a time has the journal.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.files import LOCK, alone, write_json

STATE = "state.json"


class Journal:
    """The logs of a run.

    Attributes:
        folder: where they lie.
        state: what was given to the last commit; empty for a run that begins.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, Any], logs: Sequence[str]) -> None:
        self.folder = folder
        self.state: dict[str, Any] = {}
        self._fingerprint = dict(fingerprint)
        self._good = dict.fromkeys(logs, 0)
        self._handles: dict[str, IO[bytes]] = {}

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, folder: Path, fingerprint: Mapping[str, Any], logs: Sequence[str], *, afresh: bool = False
    ) -> Iterator[Journal]:
        """Begin a run, or continue the one in `folder`, and keep other processes out of it.

        Args:
            folder: made where it is missing, its parents too.
            fingerprint: what the run is of, in words, to values; a run is continued only where all are the same.
            logs: the names of its files.
            afresh: forget what is there.

        Raises:
            UsageError: another process has it; it cannot be made; or what is there is a run of something else.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(_remove_if_empty, folder)  # when the lock in it is gone
            try:
                stack.enter_context(alone(folder, str(folder.with_suffix(""))))
            except OSError as error:
                raise UsageError(f"{folder} cannot be made ({error.strerror}); give --out another folder") from error
            if afresh:
                _empty(folder)
            journal = cls(folder, fingerprint, logs)
            try:
                journal._continue()
                yield journal
            finally:
                journal._close()
                if folder.is_dir() and not (folder / STATE).exists():
                    _empty(folder)  # a run that failed before its first commit leaves nothing to go on with

    def finish(self) -> None:
        """Remove everything, when what the run was for is done; the folder goes when the journal is left."""
        self._close()  # Windows removes no file that is open
        _empty(self.folder)

    def _close(self) -> None:
        for handle in self._handles.values():
            with contextlib.suppress(OSError):  # what was not committed is not promised
                handle.close()

    def _continue(self) -> None:
        state = self.folder / STATE
        if state.exists():
            found = json.loads(state.read_text(encoding="utf-8"))
            for what, value in self._fingerprint.items():
                if found["fingerprint"].get(what) != value:
                    raise UsageError(
                        f"the unfinished run in {self.folder} had another {what}; "
                        "give --overwrite to begin again, or what it was begun with"
                    )
            self.state = found["state"]
            self._good.update(found["bytes"])
        with self._told():
            for name, good in self._good.items():
                self._handles[name] = (self.folder / name).open("ab")
                self._handles[name].truncate(good)

    def write(self, log: str, line: bytes) -> None:
        """Append a line to a log.

        Raises:
            MmgcsError: the disk takes no more; what was committed stays.
        """
        with self._told():
            self._handles[log].write(line)
        self._good[log] += len(line)

    def commit(self, state: dict[str, Any]) -> None:
        """Make what was written last, in the order that a power cut respects: the logs first, then the state.

        Raises:
            MmgcsError: as `write`.
        """
        with self._told():
            for handle in self._handles.values():
                handle.flush()
                os.fsync(handle.fileno())
            write_json(self.folder / STATE, {"fingerprint": self._fingerprint, "bytes": self._good, "state": state})

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise MmgcsError(
                f"{self.folder} cannot be written ({error.strerror}); mend that and go on with --resume"
            ) from error


def _empty(folder: Path) -> None:
    """Remove all but the lock; first what says how far the rest is good: without it there is nothing to go on with."""
    (folder / STATE).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.name != LOCK:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _remove_if_empty(folder: Path) -> None:
    # Not where another process has put its lock meanwhile; one that was about to makes the folder again.
    with contextlib.suppress(OSError):
        folder.rmdir()
