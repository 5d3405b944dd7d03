"""`mmgcs tune`: search a recipe's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmgcs.cli.options import AsJson, Data, Posters, Settings
from mmgcs.cli.output import examples, explain_interrupt, new_app, print_json, say

app = new_app("Search a recipe's settings.")


@app.command(epilog=examples("mmgcs tune text --data films.csv --out runs/tune-text --trials 40"))
def tune(
    recipe: Annotated[str, typer.Argument(help="A recipe with a `search`: text, poster, or a YAML file.")],
    data: Data,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The search's folder.")],
    posters: Posters = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials in total, including those before --resume.")] = 20,
    workers: Annotated[int, typer.Option(min=1, help="Processes that run trials in parallel.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the search in --out.")] = False,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Search the settings that a recipe's `search` names, and write the best recipe.

    Every trial trains the branches that the search concerns and is scored on the films of split "valid"; a trial that
    is worse than most were at the same point ends early. DIR gets best.yaml, trials.csv, history.png, importance.png
    and study.db.
    """
    from mmgcs.training import read_recipe, search_settings

    loaded = read_recipe(recipe, settings)
    with explain_interrupt(f"finished trials are kept in {out}; run the same command with --resume to continue"):
        found = search_settings(loaded, data, posters, out, trials=trials, workers=workers, resume=resume, log=say)
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
