"""`mmgcs train`, `tune` and `train-all`: from recipes and labelled films to bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from mmgcs.cli.options import (
    AllowPrivate,
    AsJson,
    BaseUrl,
    Columns,
    Data,
    Devices,
    Posters,
    Quiet,
    Settings,
    command_line,
    download,
    parse_columns,
    split_list,
)
from mmgcs.cli.output import examples, explain_interrupt, new_app, print_json, print_result, say

app = new_app()

POSTERS_HELP = "The posters' folder; missing ones are fetched into it."
SETTINGS_HELP = "Override a setting in each recipe that has it; RECIPE:KEY=VALUE in one."


@app.command(
    epilog=examples(
        "mmgcs train english --data films.csv --posters posters/ --out runs/mine",
        "mmgcs train finetune-head --data my_genres.csv --set head.folds=5",
        "mmgcs train english --data films.csv --out runs/mine --resume",
    )
)
def train(
    recipe: Annotated[str, Argument(help="A recipe of mmgcs, such as default, text or poster, or a YAML file.")],
    data: Data,
    out: Annotated[
        Path | None,
        Option(metavar="DIR", help="The run's folder; the bundle is in DIR/bundle.", show_default="runs/RECIPE"),
    ] = None,
    posters: Posters = None,
    resume: Annotated[bool, Option("--resume", help="Continue the run in --out.")] = False,
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
    where = f"runs/{out.name}"
    command = command_line(
        "train", f"recipes/{file.name}", data=data, posters=posters, columns=columns, out=where, set=settings
    )
    with explain_interrupt(f"the last checkpoint is kept in {out}; run the same command with --resume to continue"):
        bundle = run(
            loaded,
            data,
            out,
            posters=posters,
            columns=parse_columns(columns),
            resume=resume,
            command=command,
            log=say,
            devices=devices,
            progress=not quiet,
        )
    value = {"bundle": str(bundle.path), "evaluation": bundle.card()["evaluation"]}
    text = f"The bundle is in {bundle.path}. Try: mmgcs predict --model {bundle.path} --plot '…'"
    print_result(value, text, as_json)


@app.command(epilog=examples("mmgcs tune text --data films.csv --out runs/tune-text --trials 40"))
def tune(
    recipe: Annotated[str, Argument(help="A recipe with a `search`: text, poster, or a YAML file.")],
    data: Data,
    out: Annotated[Path, Option(metavar="DIR", help="The search's folder.")],
    posters: Posters = None,
    trials: Annotated[int, Option(min=1, help="Trials in total, including those before --resume.")] = 20,
    workers: Annotated[int, Option(min=1, help="Processes that run trials in parallel.")] = 1,
    resume: Annotated[bool, Option("--resume", help="Continue the search in --out.")] = False,
    columns: Columns = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Search the settings that a recipe's `search` names, and write the best recipe.

    Each trial trains the branches that the search changes and is scored on split "valid"; trials that fall behind are
    stopped early. DIR gets best.yaml, trials.csv, history.png, importance.png and study.db.
    """
    from mmgcs.training import read_recipe, search_settings

    loaded = read_recipe(recipe, settings)
    with explain_interrupt(f"finished trials are kept in {out}; run the same command with --resume to continue"):
        found = search_settings(
            loaded,
            data,
            posters,
            out,
            columns=parse_columns(columns),
            trials=trials,
            workers=workers,
            resume=resume,
            log=say,
        )
    value = {"valid_map": found.score, "settings": found.settings, "trials": found.trials}
    best = ", ".join(f"{place}={value}" for place, value in found.settings.items())
    text = f"Best on valid: {found.score:.4f} with {best}. Train it: mmgcs train {found.recipe} …"
    print_result({"recipe": str(found.recipe), **value}, text, as_json)


@app.command(
    name="train-all",
    epilog=examples(
        "mmgcs train-all --data films.csv --out runs/all --dry-run",
        "mmgcs train-all --data films.csv --out runs/all --recipes text,english --no-fetch",
    ),
)
def train_all(
    data: Data,
    out: Annotated[Path, Option(metavar="DIR", help="The folder for the report and a run per recipe.")],
    posters: Annotated[Path | None, Option(metavar="DIR", help=POSTERS_HELP, show_default="DIR/posters")] = None,
    recipes: Annotated[str, Option(help="Recipes or YAML files, separated by commas.")] = "text,poster,english",
    columns: Columns = None,
    settings: Annotated[list[str] | None, Option("--set", metavar="KEY=VALUE", help=SETTINGS_HELP)] = None,
    glove: Annotated[
        Path | None, download(metavar="FILE", help="Word vectors on disk: a .zip, .txt or .txt.gz.")
    ] = None,
    fetch: Annotated[bool, download("--fetch/--no-fetch", help="Download word vectors and posters.")] = True,
    base_url: BaseUrl = None,
    allow_private: AllowPrivate = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the plan and do nothing.")] = False,
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
        recipes=read_recipes(split_list(recipes), settings or []),
        settings=tuple(settings or ()),
        glove=glove,
        fetch=fetch,
        base_url=base_url,
        allow_private=allow_private,
        columns=parse_columns(columns),
        devices=devices,
        progress=not quiet,
        log=say,
    )
    plan = make_plan(order)
    rows = [{"step": step.name, "what": step.what, "done": step.done()} for step in plan]
    if dry_run and as_json:
        print_json({"plan": rows})
        return
    show = print if dry_run else say
    for number, row in enumerate(rows, 1):
        show(f"{number:>2}. {'done ' if row['done'] else 'to do'} {row['step']}: {row['what']}")
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
