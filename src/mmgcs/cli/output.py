"""What every command shares: its app, and how it prints."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer

from mmgcs.errors import InterruptedRunError


def new_app(help: str | None = None, epilog: str | None = None) -> typer.Typer:  # noqa: A002  typer's own word
    """Return the typer app of one command, or of a group of commands that shows its help when called alone.

    Args:
        help: one line, for a group; a command takes it from its docstring.
        epilog: for a group, the `examples` at the end of its help; a command gives its own to `@app.command`.
    """
    settings: dict[str, Any] = {"rich_markup_mode": "rich", "pretty_exceptions_enable": False, "no_args_is_help": True}
    return typer.Typer(help=help, epilog=epilog, add_completion=False, **settings)


def examples(*lines: str) -> str:
    """Return the end of a command's help: example calls, for `@app.command(epilog=examples(…))`."""
    return "\n".join(["Examples:", *(f"  {line}".replace("[", "\\[") for line in lines)])


@contextmanager
def explain_interrupt(message: str) -> Iterator[None]:
    """Turn Ctrl-C inside the block into an `InterruptedRunError`: one line that says what is kept and how to resume."""
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRunError(f"interrupted; {message}") from None


def say(text: str = "") -> None:
    """Print a message to stderr (stdout is for results), or nothing if stderr is full or closed."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print the one JSON value of `--json` to stdout, in ASCII if stdout is not Unicode."""
    json.dump(value, sys.stdout, ensure_ascii=not stdout_is_unicode(), allow_nan=False, indent=2)
    sys.stdout.write("\n")


def print_result(value: Any, text: str, as_json: bool) -> None:
    """Print a command's result: one JSON value with `--json`, otherwise text."""
    if as_json:
        print_json(value)
    else:
        print(text)


def stdout_is_unicode() -> bool:
    """Return True if stdout can print every character."""
    return (sys.stdout.encoding or "").lower().startswith("utf")


def bar(share: float, width: int = 20) -> str:
    """Return a bar that is `share` (0 to 1) of `width` characters full, in ASCII if stdout is not Unicode."""
    full, empty = ("█", "·") if stdout_is_unicode() else ("#", ".")
    cells = round(max(0.0, min(1.0, share)) * width)
    return full * cells + empty * (width - cells)


def prepare_streams() -> None:
    """Make stdout print any file name, and replace closed standard streams with /dev/null."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
