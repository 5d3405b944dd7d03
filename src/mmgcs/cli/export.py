"""`mmgcs export`: the bundle of a finished training, as it is or smaller."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from mmgcs.cli.output import new_app, print_json, say

app = new_app("Write a run's bundle, in int8 or under a size.")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN_OR_BUNDLE", help="The folder of a training, or of a bundle.")],
    out: Annotated[Path, typer.Option(help="The folder of the new bundle.", metavar="DIR")],
    int8: Annotated[bool, typer.Option("--int8", help="Every branch in 8-bit integers.")] = False,
    max_size_mb: Annotated[
        float | None,
        typer.Option(help="The most megabytes (of a million bytes) that the bundle may have.", metavar="N", min=0.001),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Films with genres; train and valid decide, test is reported.", metavar="FILMS"),
    ] = None,
    posters: Annotated[Path | None, typer.Option(help="The folder that the films' posters lie in.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
) -> None:
    """Write the bundle of a finished training, or another bundle, into a folder of its own.

    With --max-size-mb, ways to make it smaller are tried: weights in 8 and 4 bits, fewer words in the tables of
    embeddings, thinner matrices. Of the ways that are small enough the one that does best on the films of split
    "valid" is taken. Thresholds are fitted again, and the card says what was done.
    """
    from mmgcs.tables import read_films
    from mmgcs.training.smaller import export as write
    from mmgcs.training.smaller import table_lines

    films = None if data is None else [film for chunk in read_films(data, posters=posters) for film in chunk]
    command = ["mmgcs", "export", run.name, "--out", out.name, *(["--int8"] if int8 else [])]
    command += [] if max_size_mb is None else ["--max-size-mb", f"{max_size_mb:g}"]
    command += [] if data is None else ["--data", data.name]
    command += [] if posters is None else ["--posters", posters.name]
    done = write(run, out, films, int8=int8, size=max_size_mb, command=shlex.join(command), log=say)
    size = sum(entry["bytes"] for entry in done.bundle.files.values())
    if as_json:
        print_json({"bundle": str(out), "bytes": size, "table": [row.to_json() for row in done.table]})
        return
    if done.table:
        print("\n".join(table_lines(done.table)))
    print(f"The bundle is in {out}; it has {size / 1e6:.1f} MB.")
