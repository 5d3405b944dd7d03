"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

from typer import Option

from mmgcs.errors import UsageError


def data_path(address: str) -> Path:
    """Return the path of a table of films; a data set of the Hugging Face hub (hf:owner/name) is downloaded."""
    if not address.startswith("hf:"):
        return Path(address)
    from mmgcs.hub import fetch_dataset

    return fetch_dataset(address)


Model = Annotated[
    Path | None, Option("--model", metavar="DIR", help="A bundle's folder.", show_default="the default model")
]
AsJson = Annotated[bool, Option("--json", help="Print one JSON value.")]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace existing files.")]
Quiet = Annotated[bool, Option("--quiet", help="Show no progress bars.")]

DATA_HELP = "Films with genres and splits: CSV, JSONL, Parquet, a folder, hf:owner/name …"
Data = Annotated[Path, Option("--data", metavar="FILMS", help=DATA_HELP, parser=data_path)]
Posters = Annotated[Path | None, Option("--posters", metavar="DIR", help="The folder of the films' posters.")]
COLUMNS_HELP = "Read NAME (id, title, year, plot, genres, poster or split) from COLUMN; may be repeated."
Columns = Annotated[list[str] | None, Option("--columns", metavar="NAME=COLUMN", help=COLUMNS_HELP)]

Settings = Annotated[
    list[str] | None, Option("--set", metavar="KEY=VALUE", help="Override a setting of the recipe; may be repeated.")
]
Devices = Annotated[int, Option("--devices", min=1, help="GPUs, or processes on a CPU, to train on.")]

download = partial(Option, rich_help_panel="Downloads")
BaseUrl = Annotated[
    str | None, download(metavar="URL", help="The address before a poster_path.", show_default="TMDB's")
]
AllowPrivate = Annotated[bool, download("--allow-private", help="Also download from private addresses.")]

_PAIR = re.compile(r"(id|title|year|plot|genres|poster|split|labels)=[^/\\]*")


def repeat_columns(args: Sequence[str]) -> list[str]:
    """Repeat `--columns` in front of each of several pairs that follow it.

    >>> repeat_columns(["tag", "--columns", "plot=synopsis", "title=name", "--out", "x.csv"])
    ['tag', '--columns', 'plot=synopsis', '--columns', 'title=name', '--out', 'x.csv']
    """
    found: list[str] = []
    for word in args:
        if len(found) > 1 and found[-2] == "--columns" and _PAIR.fullmatch(word):
            found.append("--columns")
        found.append(word)
    return found


def parse_columns(pairs: Sequence[str] | None) -> dict[str, str]:
    """Return a film's fields and the columns they are read from, given the values of `--columns`.

    >>> parse_columns(["plot=synopsis", "title=Movie Title"])
    {'plot': 'synopsis', 'title': 'Movie Title'}

    Raises:
        UsageError: a value is not NAME=COLUMN, or a name comes twice.
    """
    columns: dict[str, str] = {}
    for pair in pairs or ():
        name, _, column = pair.partition("=")
        if not name or not column:
            raise UsageError(f"--columns {pair!r} is not NAME=COLUMN; write it like --columns plot=synopsis")
        if name in columns:
            raise UsageError(f"--columns names {name} twice; give one column for it")
        columns[name] = column
    return columns


def split_list(text: str) -> list[str]:
    """Return the items of a comma-separated list.

    >>> split_list("Drama, Comedy,")
    ['Drama', 'Comedy']
    """
    return [item.strip() for item in text.split(",") if item.strip()]


def command_line(*words: str, **options: str | float | Path | list[str] | bool | None) -> str:
    """Return a command line for a bundle's card: files are shown by name, without this machine's folders.

    >>> command_line("train", "text", data=Path("/tmp/films.csv"), set=["epochs=2"], posters=None)
    'mmgcs train text --data films.csv --set epochs=2'
    """
    parts = ["mmgcs", *words]
    for name, given in options.items():
        for value in given if isinstance(given, list) else [given]:
            if value is None or value is False:
                continue
            parts.append(f"--{name.replace('_', '-')}")
            if isinstance(value, Path):
                parts.append(value.name)
            elif value is not True:
                parts.append(f"{value:g}" if isinstance(value, float) else value)
    return shlex.join(parts)
