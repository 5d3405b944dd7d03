"""`mmgcs train-all`: from labelled films to measured, verified bundles and one report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mmgcs.cli.output import new_app, print_json, say

app = new_app("Train every recipe, one after the other.")


@app.command()
def train_all(
    data: Annotated[Path, typer.Option(help="Films with genres and splits: CSV, JSONL or Parquet.", metavar="FILMS")],
    out: Annotated[Path, typer.Option(help="Where everything goes: a folder a recipe, and the report.")],
    posters: Annotated[
        Path | None,
        typer.Option(help="The folder of the posters; missing ones are put there.", show_default="OUT/posters"),
    ] = None,
    recipes: Annotated[
        str, typer.Option(help="Names of recipes, or .yaml files, with commas between them.")
    ] = "text,poster,default",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE for the recipes that have the part, RECIPE:KEY=VALUE for one."),
    ] = None,
    glove: Annotated[
        Path | None, typer.Option(help="Word vectors that are here already: a .zip, .txt or .txt.gz.")
    ] = None,
    fetch: Annotated[bool, typer.Option("--fetch/--no-fetch", help="Fetch word vectors and posters.")] = True,
    base_url: Annotated[
        str | None, typer.Option(help="What stands before a poster_path.", show_default="TMDB's")
    ] = None,
    allow_private: Annotated[bool, typer.Option("--allow-private", help="Fetch from private addresses too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and do nothing.")] = False,
    devices: Annotated[int, typer.Option(min=1, help="GPUs, or processes on a CPU, to train on.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value: the plan, or the report.")] = False,
) -> None:
    """Check the data, fetch what is missing, train, evaluate, verify, and write one report.

    A second run does only what is left; a training that was stopped goes on. Exit status 1 when a bundle is not as it
    should be.
    """
    from mmgcs.training.train_all import Order, carry_out, make_plan, read_recipes

    order = Order(
        data=data,
        posters=posters or out / "posters",
        out=out,
        recipes=read_recipes([name.strip() for name in recipes.split(",") if name.strip()], settings or []),
        settings=tuple(settings or ()),
        glove=glove,
        fetch=fetch,
        base_url=base_url,
        allow_private=allow_private,
        devices=devices,
        progress=not quiet,
        log=say,
    )
    plan = make_plan(order)
    rows = [{"step": step.name, "what": step.what, "done": step.done()} for step in plan]
    if dry_run and as_json:
        print_json({"plan": rows})
        return
    for number, row in enumerate(rows, 1):
        line = f"{number:>2}. {'done ' if row['done'] else 'to do'} {row['step']}: {row['what']}"
        if dry_run:
            print(line)
        else:
            say(line)
    if dry_run:
        return
    worked = carry_out(plan, say)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    if as_json:
        print_json({"done": worked, **report})
    else:
        for model in report["models"]:
            for row in model["scores"]:
                macro = row["macro_f1"]["value"]
                print(f"{model['recipe']}, {row['films']}: macro-F1 {'–' if macro is None else f'{macro:.3f}'}")
        print(f"The report is {out / 'report.html'}.")
    if not all(model["verified"] for model in report["models"]):
        raise typer.Exit(1)
