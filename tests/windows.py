"""Files that behave as on Windows, in a process on Linux.

A file that is open can be neither removed nor renamed nor replaced, nor can a folder that it is in; and nothing is
renamed onto what exists, an empty folder too.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

import pytest

OPEN = Path("/proc/self/fd")


def open_files() -> set[Path]:
    """The files that this process has open; none where the system does not say."""
    found = set()
    for link in OPEN.iterdir() if OPEN.is_dir() else ():
        with contextlib.suppress(OSError):
            found.add(link.readlink())
    return {path for path in found if path.is_file()}


@pytest.fixture
def like_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove and rename files under the rules of Windows."""
    if not OPEN.is_dir():
        pytest.skip("it is not known which files are open")
    real = {name: getattr(os, name) for name in ("unlink", "remove", "rmdir", "rename", "replace")}

    def wrap(name: str) -> Any:
        def wrapped(*paths: Any, **options: Any) -> None:
            folder = options.get("dir_fd")  # rmtree names files relative to open folders
            for path in paths:
                full = Path() if folder is None else (OPEN / str(folder)).readlink()
                full = (full / Path(path).parent).resolve() / Path(path).name
                if any(full in (file, *file.parents) for file in open_files()):
                    raise PermissionError(errno.EACCES, "it is open", str(path))
            if name == "rename" and os.path.lexists(paths[1]):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(paths[1]))
            real[name](*paths, **options)

        return wrapped

    for name in real:
        monkeypatch.setattr(os, name, wrap(name))
