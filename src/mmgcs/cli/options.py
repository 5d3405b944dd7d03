"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmgcs.errors import UsageError

if TYPE_CHECKING:
    from mmgcs.film import Film

MAX_PLOT_BYTES = 64 * 2**20


def data_path(address: str) -> Path:
    """Return the path of a table of films; a data set of the Hugging Face hub (hf:owner/name) is downloaded."""
    if not address.startswith("hf:"):
        return Path(address)
    from mmgcs.hub import fetch_dataset

    return fetch_dataset(address)


_film = partial(Option, rich_help_panel="The film")
Plot = Annotated[str | None, _film("--plot", metavar="TEXT", help="The plot in prose.")]
PlotFile = Annotated[Path | None, _film("--plot-file", metavar="FILE", help="A text file with the plot; - for stdin.")]
Poster = Annotated[Path | None, _film("--poster", metavar="FILE", help="An image file.")]
Title = Annotated[str | None, _film("--title", metavar="TEXT", help="The title; it helps alongside a plot.")]

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

SETTINGS_HELP = "Override a setting of the recipe; may be repeated."
Settings = Annotated[list[str] | None, Option("--set", metavar="KEY=VALUE", help=SETTINGS_HELP)]
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
    """Return the columns to read by the names of a film's fields, from the values of `--columns`.

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
    """Return the items of a list with commas.

    >>> split_list("Drama, Comedy,")
    ['Drama', 'Comedy']
    """
    return [item.strip() for item in text.split(",") if item.strip()]


def command_line(*words: str, **options: str | float | Path | list[str] | bool | None) -> str:
    """Return a command as a bundle's card shows it: files by their names, without this machine's folders.

    >>> command_line("train", "text", data=Path("/tmp/films.csv"), set=["epochs=2"], posters=None)
    'mmgcs train text --data films.csv --set epochs=2'
    """
    parts = ["mmgcs", *words]
    for name, given in options.items():
        for value in given if isinstance(given, list) else [given]:
            if value is None or value is False:
                continue
            parts.append(f"--{name.replace('_', '-')}")
            if value is not True:
                parts.append(
                    value.name if isinstance(value, Path) else f"{value:g}" if isinstance(value, float) else value
                )
    return shlex.join(parts)


def read_film(plot: str | None, plot_file: Path | None, poster: Path | None, title: str | None) -> Film:
    """Return the film that the options `Plot`, `PlotFile`, `Poster` and `Title` describe.

    Raises:
        UsageError: there is neither plot nor poster, the plot is given twice, or its file cannot be read.
    """
    if plot is not None and plot_file is not None:
        raise UsageError("--plot and --plot-file were both given; give one")
    if plot is None and plot_file is None and poster is None:
        raise UsageError("there is nothing to predict from; give --plot, --plot-file or --poster")
    from mmgcs.film import Film

    return Film(title=title, plot=plot if plot_file is None else _read_plot(plot_file), poster=poster)


def _read_plot(path: Path) -> str:
    from mmgcs.files import decode_text

    try:
        with contextlib.nullcontext(sys.stdin.buffer) if path == Path("-") else path.open("rb") as handle:
            data = handle.read(MAX_PLOT_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"the plot file {path} does not exist; check the path") from None
    except OSError as error:
        raise UsageError(f"the plot file {path} cannot be read ({error.strerror or error})") from None
    if len(data) > MAX_PLOT_BYTES:
        raise UsageError(f"{path} is larger than {MAX_PLOT_BYTES // 2**20} MiB, too large for a plot")
    return decode_text(data)
