"""`mmgcs tune`: search a recipe's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmgcs.cli.output import new_app, print_json, say
from mmgcs.errors import InterruptedRunError

app = new_app("Search a recipe's settings.")


@app.command()
def tune(
    recipe: Annotated[
        str, typer.Argument(help="A recipe whose `search` names what to try: text, poster, or a YAML file.")
    ],
    data: Annotated[Path, typer.Option(help="Films with genres and splits: CSV, JSONL or Parquet.")],
    out: Annotated[Path, typer.Option(help="The search's folder.")],
    posters: Annotated[Path | None, typer.Option(help="The folder that the films' posters lie in.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, those before --resume included.")] = 20,
    workers: Annotated[int, typer.Option(min=1, help="Processes that try settings at once.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in --out.")] = False,
    settings: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE over the recipe's setting.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value: the best settings.")] = False,
) -> None:
    """Search the settings that a recipe's `search` names, and write the best recipe.

    Every trial trains the branches that the search concerns and is judged on the films of split "valid"; one that is
    worse than most were at the same point ends early. The folder --out holds best.yaml, trials.csv, history.png,
    importance.png and study.db.
    """
    from mmgcs.training import read_recipe
    from mmgcs.training.tune import tune as search

    made = read_recipe(recipe, settings)
    try:
        found = search(made, data, posters, out, trials=trials, workers=workers, resume=resume, log=say)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted; the trials that ended are kept in {out}: give the same command with --resume to go on"
        ) from None
    if as_json:
        print_json(
            {
                "recipe": str(found.recipe),
                "valid_map": found.score,
                "settings": found.settings,
                "trials": found.trials,
            }
        )
    else:
        best = ", ".join(f"{place}={value}" for place, value in found.settings.items())
        print(f"Best on valid: {found.score:.4f} with {best}. Train it: mmgcs train {found.recipe} …")
