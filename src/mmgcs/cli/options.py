"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmgcs.errors import UsageError

if TYPE_CHECKING:
    from mmgcs.film import Film

MAX_PLOT_BYTES = 64 * 2**20


def _option(name: str, metavar: str, help: str, panel: str | None = None) -> Any:  # noqa: A002  typer's own word
    return typer.Option(name, metavar=metavar, help=help, rich_help_panel=panel, show_default=False)


_FILM = "The film"
Plot = Annotated[str | None, _option("--plot", "TEXT", "The plot in prose.", _FILM)]
PlotFile = Annotated[Path | None, _option("--plot-file", "FILE", "A text file with the plot; - for stdin.", _FILM)]
Poster = Annotated[Path | None, _option("--poster", "FILE", "An image file.", _FILM)]
Title = Annotated[str | None, _option("--title", "TEXT", "The title; it helps alongside a plot.", _FILM)]
Model = Annotated[
    Path | None,
    typer.Option("--model", metavar="DIR", help="A bundle's folder.", show_default="the default model"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]


def data_path(address: str) -> Path:
    """Return the path of a table of films; a data set of the Hugging Face hub (hf:owner/name) is downloaded."""
    if not address.startswith("hf:"):
        return Path(address)
    from mmgcs.hub import fetch_dataset

    return fetch_dataset(address)


Data = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="FILMS",
        help="Films with genres and splits: CSV, JSONL, Parquet, a folder, hf:owner/name …",
        parser=data_path,
    ),
]
Posters = Annotated[Path | None, _option("--posters", "DIR", "The folder of the films' posters.")]
Settings = Annotated[
    list[str] | None, _option("--set", "KEY=VALUE", "Override a setting of the recipe; may be repeated.")
]
Devices = Annotated[int, typer.Option("--devices", min=1, help="GPUs, or processes on a CPU, to train on.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress bars.")]
Columns = Annotated[
    list[str] | None,
    _option(
        "--columns",
        "NAME=COLUMN",
        "Read NAME (id, title, year, plot, genres, poster or split) from COLUMN; may be repeated.",
    ),
]

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
        name, equals, column = pair.partition("=")
        if not name or not equals or not column:
            raise UsageError(f"--columns {pair!r} is not NAME=COLUMN; write it like --columns plot=synopsis")
        if name in columns:
            raise UsageError(f"--columns names {name} twice; give one column for it")
        columns[name] = column
    return columns


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
        limit = MAX_PLOT_BYTES // 2**20
        raise UsageError(f"{path} is larger than {limit} MiB, too large for a plot; give a shorter text")
    return decode_text(data)
