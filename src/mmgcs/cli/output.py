"""What every command shares: its app, and how it prints."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer


def new_app(help: str) -> typer.Typer:  # noqa: A002  typer's own word
    """A typer app whose help and errors are plain text: rich would cost more to import than a prediction takes."""
    import typer

    return typer.Typer(help=help, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def say(text: str = "") -> None:
    """Print a line for the person, to stderr: stdout is for results."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print the one JSON value of `--json` to stdout; in ASCII where stdout has no more."""
    json.dump(value, sys.stdout, ensure_ascii=not speaks_unicode(), allow_nan=False, indent=2)
    sys.stdout.write("\n")


def speaks_unicode() -> bool:
    """Whether stdout can show every character."""
    return (sys.stdout.encoding or "").lower().startswith("utf")


def bar(share: float, width: int = 20) -> str:
    """A bar that is `share` (0 to 1) of `width` characters full, in ASCII where the terminal has no more."""
    full, empty = ("█", "·") if speaks_unicode() else ("#", ".")
    cells = round(max(0.0, min(1.0, share)) * width)
    return full * cells + empty * (width - cells)
