"""Errors that users see. Each message is one line: what is wrong, why, and how to fix it."""

from __future__ import annotations

INTERRUPTED = 130
"""The exit status after Ctrl-C."""


class MmgcsError(Exception):
    """The work failed for a reason the user can read. The command line exits with `exit_status`."""

    exit_status = 1

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class UsageError(MmgcsError):
    """The command or call is wrong: a bad option, a missing file, an unknown key in a recipe."""

    exit_status = 2


class InputError(UsageError):
    """An input, such as a film's plot or poster, cannot be used. In batches, it is the film's `error` or a warning."""


class BundleError(MmgcsError):
    """A bundle is damaged, incomplete, or in a format that this version cannot read."""


class InterruptedRunError(MmgcsError):
    """Ctrl-C ended a run that can be resumed; the message says how."""

    exit_status = INTERRUPTED


def printable(text: str) -> str:
    """Return text that can be printed: bytes of a file name that are not UTF-8 are written as `\\udcff`.

    >>> printable("caf\\udce9.jpg")
    'caf\\\\udce9.jpg'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
