"""`mmgcs train`: from a recipe and labelled films to a bundle."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from mmgcs.cli.options import AsJson, Columns, Data, Devices, Posters, Quiet, Settings, parse_columns
from mmgcs.cli.output import examples, explain_interrupt, new_app, print_json, say

app = new_app("Train a model from a recipe.")


@app.command(
    epilog=examples(
        "mmgcs train default --data films.csv --posters posters/ --out runs/mine",
        "mmgcs train finetune-head --data my_genres.csv --set epochs=5",
        "mmgcs train default --data films.csv --out runs/mine --resume",
    )
)
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe of mmgcs, such as default, text or poster, or a YAML file.")],
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The run's folder; the bundle is in DIR/bundle.", show_default="runs/RECIPE"),
    ] = None,
    posters: Posters = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    columns: Columns = None,
    settings: Settings = None,
    devices: Devices = 1,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train the models that a recipe describes, and write their bundle.

    Everything is chosen on the films of split "valid" and reported on "test". Continue an interrupted run from its last
    checkpoint with --resume.
    """
    from mmgcs.training import find_recipe, read_recipe
    from mmgcs.training import train as run

    file = find_recipe(recipe)
    loaded = read_recipe(file, settings)
    out = out or Path("runs") / file.stem
    with explain_interrupt(f"the last checkpoint is kept in {out}; run the same command with --resume to continue"):
        bundle = run(
            loaded,
            data,
            out,
            posters=posters,
            columns=parse_columns(columns),
            resume=resume,
            command=_command(file, data, posters, columns, out, settings),
            log=say,
            devices=devices,
            progress=not quiet,
        )
    if as_json:
        print_json({"bundle": str(bundle.path), "evaluation": bundle.card()["evaluation"]})
    else:
        print(f"The bundle is in {bundle.path}. Try: mmgcs predict --model {bundle.path} --plot '…'")


def _command(
    recipe: Path,
    data: Path,
    posters: Path | None,
    columns: list[str] | None,
    out: Path,
    settings: list[str] | None,
) -> str:
    """Return the command that repeats this run, with names instead of this machine's paths."""
    parts = ["mmgcs", "train", f"recipes/{recipe.name}", "--data", data.name]
    if posters is not None:
        parts += ["--posters", posters.name]
    for column in columns or []:
        parts += ["--columns", column]
    parts += ["--out", f"runs/{out.name}"]
    for setting in settings or []:
        parts += ["--set", setting]
    return shlex.join(parts)
