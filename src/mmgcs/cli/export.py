"""`mmgcs export`: the bundle of a finished training, as it is or smaller."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from mmgcs.cli.options import AsJson, Posters
from mmgcs.cli.output import examples, new_app, print_json, say

app = new_app("Write a run's bundle, in int8 or below a size.")


@app.command(
    epilog=examples(
        "mmgcs export runs/default --out bundle --int8",
        "mmgcs export runs/default --out small --max-size-mb 10 --data films.csv",
    )
)
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN_OR_BUNDLE", help="The folder of a training, or of a bundle.")],
    out: Annotated[Path, typer.Option(help="The folder of the new bundle.", metavar="DIR")],
    int8: Annotated[bool, typer.Option("--int8", help="Store all weights as 8-bit integers.")] = False,
    max_size_mb: Annotated[
        float | None,
        typer.Option(help="The bundle's largest size in MB (10^6 bytes).", metavar="N", min=0.001, show_default=False),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Films with genres, to fit thresholds again.", metavar="FILMS", show_default=False),
    ] = None,
    posters: Posters = None,
    as_json: AsJson = False,
) -> None:
    """Write the bundle of a finished training, or another bundle, into a new folder.

    With --max-size-mb, settings are tried from the best to the smallest: weights in 8 bits, fewer words in embedding
    tables, weights in 4 bits. The first bundle below the size is written. Its thresholds are fitted again on the films
    of split "valid", and its card says what was done.
    """
    from mmgcs.tables import read_films
    from mmgcs.training import export_bundle, table_lines

    films = None if data is None else [film for chunk in read_films(data, posters=posters) for film in chunk]
    command = ["mmgcs", "export", run.name, "--out", out.name, *(["--int8"] if int8 else [])]
    command += [] if max_size_mb is None else ["--max-size-mb", f"{max_size_mb:g}"]
    command += [] if data is None else ["--data", data.name]
    command += [] if posters is None else ["--posters", posters.name]
    bundle, table = export_bundle(run, out, films, int8=int8, size=max_size_mb, command=shlex.join(command), log=say)
    size = sum(entry["bytes"] for entry in bundle.files.values())
    if as_json:
        print_json({"bundle": str(out), "bytes": size, "table": table})
        return
    if table:
        print("\n".join(table_lines(table)))
    print(f"The bundle is in {out} ({size / 1e6:.1f} MB).")
