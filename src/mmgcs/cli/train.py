"""`mmgcs train`: from a recipe and labelled films to a bundle."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from mmgcs.cli.output import new_app, print_json, say
from mmgcs.errors import InterruptedRunError

app = new_app("Train a model from a recipe.")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe that comes with mmgcs, such as default, or a YAML file.")],
    data: Annotated[Path, typer.Option(help="Films with genres and splits: CSV, JSONL or Parquet.")],
    out: Annotated[
        Path | None, typer.Option(help="The run's folder, for the bundle in its folder bundle; runs/RECIPE without it.")
    ] = None,
    posters: Annotated[Path | None, typer.Option(help="The folder that the films' posters lie in.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    settings: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE over the recipe's setting.")] = None,
    devices: Annotated[int, typer.Option(min=1, help="GPUs, or processes on a CPU, to train on.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value: the bundle and its scores.")] = False,
) -> None:
    """Train the models that a recipe describes, and write their bundle.

    Everything is chosen on the films of split "valid" and reported on "test". A run that was stopped goes on from its
    last checkpoint with --resume.
    """
    from mmgcs.training import find_recipe, read_recipe
    from mmgcs.training import train as run

    file = find_recipe(recipe)
    made = read_recipe(file, settings)
    out = out or Path("runs") / file.stem
    try:
        bundle = run(
            made,
            data,
            posters,
            out,
            resume=resume,
            command=_command(file, data, posters, out, settings),
            log=say,
            devices=devices,
            progress=not quiet,
        )
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted; the last good checkpoint is kept in {out}: give the same command with --resume to go on"
        ) from None
    if as_json:
        print_json({"bundle": str(bundle.path), "evaluation": bundle.card()["evaluation"]})
    else:
        print(f"The bundle is in {bundle.path}. Try: mmgcs predict --model {bundle.path} --plot '…'")


def _command(recipe: Path, data: Path, posters: Path | None, out: Path, settings: list[str] | None) -> str:
    """The command that repeats this run, with names instead of this machine's paths."""
    parts = ["mmgcs", "train", f"recipes/{recipe.name}", "--data", data.name]
    if posters is not None:
        parts += ["--posters", posters.name]
    parts += ["--out", f"runs/{out.name}"]
    for setting in settings or []:
        parts += ["--set", setting]
    return shlex.join(parts)
