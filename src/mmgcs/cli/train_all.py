"""`mmgcs train-all`: from labelled films to measured, verified bundles and one report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mmgcs.cli.options import AsJson, Data, Devices, Quiet
from mmgcs.cli.output import examples, explain_interrupt, new_app, print_json, say

app = new_app("Train every recipe, one after the other.")

_FETCH = "Downloads"


@app.command(
    name="train-all",
    epilog=examples(
        "mmgcs train-all --data films.csv --out runs/all --dry-run",
        "mmgcs train-all --data films.csv --out runs/all --recipes text,default --no-fetch",
    ),
)
def train_all(
    data: Data,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets a folder per recipe, and the report.")],
    posters: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The posters' folder; missing ones are fetched into it.", show_default="DIR/posters"
        ),
    ] = None,
    recipes: Annotated[str, typer.Option(help="Recipes or YAML files, separated by commas.")] = "text,poster,default",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a setting in each recipe that has it; RECIPE:KEY=VALUE in one.",
            show_default=False,
        ),
    ] = None,
    glove: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Word vectors on disk: a .zip, .txt or .txt.gz.",
            rich_help_panel=_FETCH,
            show_default=False,
        ),
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch/--no-fetch", help="Download word vectors and posters.", rich_help_panel=_FETCH)
    ] = True,
    base_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="The address before a poster_path.", show_default="TMDB's", rich_help_panel=_FETCH
        ),
    ] = None,
    allow_private: Annotated[
        bool,
        typer.Option("--allow-private", help="Also download from private addresses.", rich_help_panel=_FETCH),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and do nothing.")] = False,
    devices: Devices = 1,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Check the data, fetch what is missing, train, evaluate, verify, and write one report.

    A second run does only the steps that are left and resumes an interrupted training. Exit status 1 if a bundle
    fails its checks.
    """
    from mmgcs.training import TrainAllOptions, make_plan, read_recipes, run_plan

    order = TrainAllOptions(
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
    with explain_interrupt(f"finished steps are kept in {out}; run the same command again to continue"):
        worked = run_plan(plan, say)
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
