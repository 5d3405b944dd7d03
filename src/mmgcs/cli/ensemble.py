"""`mmgcs ensemble`: join bundles into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmgcs.cli.options import AsJson, Data, Posters
from mmgcs.cli.output import examples, new_app, print_json, say

app = new_app("Join bundles into one.")


@app.command(epilog=examples("mmgcs ensemble runs/a/bundle runs/b/bundle --data films.csv --out joined"))
def ensemble(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE BUNDLE…", help="Two or more bundles' folders.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="The folder of the new bundle.", metavar="DIR")],
    posters: Posters = None,
    method: Annotated[
        str, typer.Option(help="weighted: one weight per bundle; stacked: one per bundle and genre.")
    ] = "weighted",
    name: Annotated[str, typer.Option(help="The new bundle's name.")] = "ensemble",
    as_json: AsJson = False,
) -> None:
    """Join bundles into one that predicts with all of them, each weighted by its scores on split "valid"."""
    from mmgcs.bundle import MANIFEST
    from mmgcs.errors import UsageError
    from mmgcs.evaluation import fit_blend
    from mmgcs.export import Member, join_bundles
    from mmgcs.runtime import load
    from mmgcs.tables import read_films

    if len(bundles) < 2:
        raise UsageError("an ensemble needs two or more bundles; give another")
    if (out / MANIFEST).exists():
        raise UsageError(f"{out} already holds a bundle; choose another --out or remove it")
    members = [load(bundle) for bundle in bundles]
    films = [film for chunk in read_films(data, posters=posters) for film in chunk if film.split == "valid"]
    say(f"weighing {len(members)} bundles on {len(films):,} films of split valid")
    blend = fit_blend(members, films, method)
    names = [member.bundle.config.name for member in members]
    found = blend.average_precision
    scores = {name: {"ensemble": together, "members": list(alone)} for name, (together, alone) in found.items()}
    card = {
        "name": name,
        "command": f"mmgcs ensemble {' '.join(names)} --method {method}",
        "genres": list(blend.genres),
        "members": [{"name": member.bundle.config.name, "card": member.bundle.card()} for member in members],
        "valid mean average precision": scores,
    }
    lines = [f"# {name}", "", f"An ensemble ({method}) of {', '.join(names)}.", ""]
    lines += [
        f"- {condition}: mean average precision on valid {together:.3f}" for condition, (together, _) in found.items()
    ]

    parts = [Member(member.bundle, scale) for member, scale in zip(members, blend.scale, strict=True)]
    join_bundles(out, name, blend.genres, parts, blend.shift, blend.decisions, card, "\n".join(lines) + "\n")
    if as_json:
        print_json({"bundle": str(out), "valid_mean_average_precision": scores})
        return
    for condition, (together, alone) in found.items():
        shown = ", ".join("–" if value is None else f"{value:.3f}" for value in alone)
        print(f"{condition}: mean average precision on valid {together:.3f} (alone: {shown})")
    print(f"The bundle is in {out}.")
