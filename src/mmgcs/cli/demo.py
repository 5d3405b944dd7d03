"""`mmgcs demo`: what the default model says of the shipped sample, beside the truth."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from mmgcs.cli.output import new_app, print_json

app = new_app("Tag the shipped sample and show the result beside the truth.")


@app.command()
def demo(
    model: Annotated[Path | None, typer.Option(help="The folder of a bundle; the shipped one without it.")] = None,
    copy: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Only write the sample into this folder: films.csv, posters/, plot.txt, poster.jpg."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
) -> None:
    """Tag the shipped sample and show the result beside the truth."""
    from mmgcs.runtime import load
    from mmgcs.sample import copy_sample, sample_films

    if copy is not None:
        names = copy_sample(copy)
        print_json({"folder": str(copy), "files": names}) if as_json else print(
            f"{', '.join(names)} are in {copy.resolve()}"
        )
        return
    films = sample_films()
    predictions = load(model).predict_batch(films)
    pairs = list(zip(films, predictions, strict=True))
    if as_json:
        print_json(
            [
                {
                    "id": film.id,
                    "title": film.title,
                    "given_genres": list(film.genres or ()),
                    "genres": list(prediction.genres),
                    "probabilities": dict(prediction.probabilities),
                    "error": prediction.error,
                }
                for film, prediction in pairs
            ]
        )
        return
    rows = [("film", "read", "true genres", "predicted, most probable first")]
    hits = chosen = true = 0
    for film, prediction in pairs:
        given = film.genres or ()
        hits += len(set(given) & set(prediction.genres))
        chosen += len(prediction.genres)
        true += len(given)
        says = ", ".join(f"{genre} {prediction.probabilities[genre]:.0%}" for genre in prediction.genres)
        says = prediction.error or says or "(none is likely enough)"
        says += "" if prediction.sure or prediction.error else "  (not sure)"
        name = f"{film.title} ({film.year})"
        rows.append((name, "+".join(prediction.inputs), ", ".join(given), says))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    rows.insert(1, ("-" * widths[0], "-" * widths[1], "-" * widths[2], "-" * len(rows[0][3])))
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip())
    score = 2 * hits / max(1, chosen + true)
    print(f"\n{len(films)} films of the shipped sample (synthetic posters): micro-F1 {score:.2f}.")
    typed = as_typed()
    print("\nNow try your own:")
    print(f'  {typed} predict --plot "Two detectives hunt a killer through the city\'s underworld."')
    print(f"  {typed} demo --copy practice    # a table, posters and a plot to practise with")
    print(f"  {typed} tag practice/films.csv --out tagged.csv")


def as_typed() -> str:
    """How this mmgcs is called from the current folder: `mmgcs`, or its path where a shell would not find it."""
    # Not resolved: in a virtual environment Python itself is a link that leads out of it.
    installed = shutil.which("mmgcs", path=str(Path(sys.executable).parent))
    on_path = shutil.which("mmgcs")
    if on_path is not None and (installed is None or Path(on_path).samefile(installed)):
        return "mmgcs"
    if installed is None:
        return f"{_quoted(sys.executable)} -m mmgcs"
    path, here = Path(installed), Path.cwd()
    return _quoted(str(path.relative_to(here) if here in path.parents[1:] else path))


def _quoted(word: str) -> str:
    return subprocess.list2cmdline([word]) if sys.platform == "win32" else shlex.quote(word)
