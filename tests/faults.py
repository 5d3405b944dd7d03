"""A call made again and again, with another of its writes failing each time, or the process dying there.

`Faults` starts this file as a process that imports what the calls need and forks once a call, so that a call takes as
long as its work does. Writes to files, `fsync` and renames are the points at which something can happen.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEAD = 137
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Outcome:
    """How a call ended: its status, the points that it passed ("rename films.csv"), and what it said on stderr."""

    status: int
    points: tuple[str, ...]
    said: str


class Faults:
    """The process that makes the calls; `modules` are imported once, before any of them."""

    def __init__(self, folder: Path, *modules: str) -> None:
        self._log = folder / "said.txt"
        environment = {**os.environ, **ENVIRONMENT}
        command = [sys.executable, __file__, *modules]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def call(self, *arguments: object, at: int = 0, how: str = "") -> Outcome:
        """Run `mmgcs` with these arguments; with point number `at` failing ("fail") or being its end ("die")."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        wish = {"arguments": list(map(str, arguments)), "at": at, "how": how, "log": str(self._log)}
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Outcome(answer["status"], tuple(answer["points"]), self._log.read_text(encoding="utf-8"))

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)


def numbers(points: Sequence[str], *, all_of: bool = True) -> list[int]:
    """The numbers of the points; without `all_of` the first and the last of each kind, for work that repeats itself."""
    if all_of:
        return list(range(1, len(points) + 1))
    first = {point: number for number, point in reversed(list(enumerate(points, 1)))}
    last = {point: number for number, point in enumerate(points, 1)}
    return sorted({*first.values(), *last.values()})


def whole_files(folder: Path) -> dict[str, bytes]:
    """Every file that is no leftover of a write: what a reader would find."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


class _Points:
    """Counts what is written, and lets it fail."""

    def __init__(self, at: int, how: str) -> None:
        self.passed: list[str] = []
        self._at, self._how = at, how

    def reach(self, what: str, name: object) -> bool:
        """Whether the process dies here; raises where it fails here."""
        # What mkstemp and the like put into names differs from run to run.
        stem = re.sub(r"\.[a-z0-9_]{8}\.part", ".part", Path(str(name)).name) if isinstance(name, str | Path) else ""
        self.passed.append(f"{what} {stem}".strip())
        if len(self.passed) != self._at:
            return False
        if self._how == "fail":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(name))
        return True


def _install(points: _Points) -> None:
    real = {name: getattr(os, name) for name in ("fsync", "replace", "rename", "link")}

    def wrap(name: str) -> Any:
        def wrapped(first: Any, *more: Any, **options: Any) -> Any:
            if points.reach(name, first if name == "fsync" else more[0]):
                os._exit(DEAD)
            return real[name](first, *more, **options)

        return wrapped

    for name in real:
        setattr(os, name, wrap(name))

    class Raw(io.FileIO):
        def write(self, data: Any) -> int:
            if points.reach("write", self.name):
                super().write(bytes(data)[: len(data) // 2])
                os._exit(DEAD)
            return super().write(data)

    opened = io.open

    def open_(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if not set(mode) & set("wax+") or str(file).startswith("/dev/"):
            return opened(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = Raw(os.fspath(file) if hasattr(file, "__fspath__") else file, mode.replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline)

    io.open = builtins.open = open_
    shutil._USE_CP_SENDFILE = False  # copies go through `write` too


def _child(wish: dict[str, Any], answer: int) -> int:
    with io.open(wish["log"], "w", encoding="utf-8") as log:  # noqa: UP020 - before `open` is replaced
        os.dup2(log.fileno(), 2)
        os.dup2(log.fileno(), 1)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), "utf-8", write_through=True)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), "utf-8", write_through=True)
    points = _Points(wish["at"], wish["how"])
    main = importlib.import_module("mmgcs.cli").main
    _install(points)
    status = 70
    with contextlib.suppress(SystemExit):
        status = main(wish["arguments"])
    os.write(answer, json.dumps(points.passed).encode())
    return status


def _calls() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def _serve() -> None:
    for module in sys.argv[1:]:
        importlib.import_module(module)
    for wish in _calls():
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ours)
            os._exit(_child(wish, theirs))
        os.close(theirs)
        with os.fdopen(ours, "rb") as pipe:
            passed = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"status": status, "points": json.loads(passed or b"[]")}), flush=True)


if __name__ == "__main__":
    _serve()
    os._exit(0)  # taking down all that was imported takes seconds
