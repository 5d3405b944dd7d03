"""`mmgcs export` and `mmgcs ensemble`: bundles from a run or from other bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from mmgcs.cli.options import AsJson, Data, Posters, command_line
from mmgcs.cli.output import examples, new_app, print_result, say
from mmgcs.errors import UsageError

app = new_app()


@app.command(
    epilog=examples(
        "mmgcs export runs/default --out bundle --int8",
        "mmgcs export runs/default --out small --max-size-mb 10 --data films.csv",
    )
)
def export(
    run: Annotated[Path, Argument(metavar="RUN_OR_BUNDLE", help="The folder of a run or a bundle, or default.")],
    out: Annotated[Path, Option(help="The folder of the new bundle.", metavar="DIR")],
    int8: Annotated[bool, Option("--int8", help="Store all weights as 8-bit integers.")] = False,
    max_size_mb: Annotated[
        float | None, Option(help="The bundle's largest size in MB (10^6 bytes).", metavar="N", min=0.001)
    ] = None,
    data: Annotated[Path | None, Option(help="Films with genres, to fit thresholds again.", metavar="FILMS")] = None,
    posters: Posters = None,
    as_json: AsJson = False,
) -> None:
    """Write the bundle of a finished run, or another bundle, into a new folder.

    With --max-size-mb, settings are tried from the best to the smallest: weights in 8 bits, fewer words in embedding
    tables, weights in 4 bits. The first bundle below the size is written. Its thresholds are fitted again on the films
    of split "valid", and its card says what was done.
    """
    from mmgcs.tables import read_films
    from mmgcs.training import export_bundle, table_lines

    films = None if data is None else [film for chunk in read_films(data, posters=posters) for film in chunk]
    command = command_line("export", run.name, out=out, int8=int8, max_size_mb=max_size_mb, data=data, posters=posters)
    bundle, table = export_bundle(run, out, films, int8=int8, size=max_size_mb, command=command, log=say)
    size = sum(entry["bytes"] for entry in bundle.files.values())
    lines = [*(table_lines(table) if table else ()), f"The bundle is in {out} ({size / 1e6:.1f} MB)."]
    print_result({"bundle": str(out), "bytes": size, "table": table}, "\n".join(lines), as_json)


@app.command(epilog=examples("mmgcs ensemble runs/a/bundle runs/b/bundle --data films.csv --out joined"))
def ensemble(
    bundles: Annotated[
        list[Path],
        Argument(metavar="BUNDLE BUNDLE…", help="Two or more folders of bundles, or default."),
    ],
    data: Data,
    out: Annotated[Path, Option(help="The folder of the new bundle.", metavar="DIR")],
    posters: Posters = None,
    method: Annotated[
        str, Option(help="weighted: one weight per bundle; stacked: one per bundle and genre.")
    ] = "weighted",
    name: Annotated[str, Option(help="The new bundle's name.")] = "ensemble",
    as_json: AsJson = False,
) -> None:
    """Join bundles into one that predicts with all of them, each weighted by its scores on split "valid"."""
    from mmgcs.bundle import MANIFEST
    from mmgcs.evaluation import fit_blend
    from mmgcs.export import join_bundles
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
    shown = {name: f"mean average precision on valid {together:.3f}" for name, (together, _) in found.items()}
    text = [f"# {name}", "", f"An ensemble ({method}) of {', '.join(names)}.", ""]
    text += [f"- {condition}: {score}" for condition, score in shown.items()]
    parts = [member.bundle for member in members]
    page = "\n".join(text) + "\n"
    join_bundles(out, name, blend.genres, parts, blend.scale, blend.shift, blend.decisions, card, page)
    lines = []
    for condition, (_, alone) in found.items():
        apart = ", ".join("–" if value is None else f"{value:.3f}" for value in alone)
        lines.append(f"{condition}: {shown[condition]} (alone: {apart})")
    lines.append(f"The bundle is in {out}.")
    print_result({"bundle": str(out), "valid_mean_average_precision": scores}, "\n".join(lines), as_json)
