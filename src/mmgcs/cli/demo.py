"""`mmgcs demo`: tag the shipped sample and compare with the true genres."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmgcs.cli.options import AsJson, Model
from mmgcs.cli.output import examples, new_app, print_json, speaks_unicode

if TYPE_CHECKING:
    from mmgcs.film import Film, Prediction

app = new_app("Tag the shipped sample and compare with the true genres.")


@app.command(epilog=examples("mmgcs demo", "mmgcs demo --copy practice"))
def demo(
    model: Model = None,
    copy: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Only copy the sample into this folder: films.csv, posters/, plot.txt, poster.jpg.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tag the shipped sample and compare with the true genres."""
    from mmgcs.runtime import load
    from mmgcs.sample import copy_sample, sample_films

    if copy is not None:
        names = copy_sample(copy)
        if as_json:
            print_json({"folder": str(copy), "files": names})
        else:
            print(f"{', '.join(names)} are in {copy.resolve()}")
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
    print_comparison(pairs)
    typed = as_typed()
    print("\nTry your own:")
    print(f'  {typed} predict --plot "Two detectives hunt a killer through the city\'s underworld."')
    print(f'  {typed} explain --plot "A ghost haunts an old house by the sea."')
    print(f"  {typed} demo --copy practice      # a table, posters and a plot to practise with")
    print(f"  {typed} tag practice/films.csv --out tagged.csv")
    print(f"  {typed} serve                     # the web page, with these posters")


def print_comparison(pairs: Sequence[tuple[Film, Prediction]]) -> None:
    """Print a table of at most 100 columns: each film, and its predicted genres marked right or wrong."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    fancy = speaks_unicode()
    right, wrong = ("✓", "✗") if fancy else ("+", "x")
    table = Table(box=SIMPLE_HEAD if fancy else None, pad_edge=False)
    table.add_column("film", width=36, overflow="ellipsis", no_wrap=True)
    table.add_column("read")
    table.add_column("predicted, most probable first")
    hits = chosen = true = unsure = first = 0
    for film, prediction in pairs:
        given = film.genres or ()
        hits += len(set(given) & set(prediction.genres))
        chosen += len(prediction.genres)
        true += len(given)
        unsure += not prediction.sure
        first += bool(prediction.genres) and prediction.genres[0] in given
        parts = [(prediction.error, "red")] if prediction.error else []
        for genre in prediction.genres:
            mark, style = (right, "green") if genre in given else (wrong, "red")
            parts.append((f"{mark} {genre} {prediction.probabilities[genre]:.0%}", style))
        if not prediction.genres and not prediction.error:
            parts.append(("no genre is likely enough", ""))
        parts += [(f"missed {genre}", "dim") for genre in given if genre not in prediction.genres]
        if not prediction.sure:
            parts.append(("(not sure)", "yellow"))
        says = Text()
        column = 0
        for part, style in parts:  # by hand, as rich would break lines inside a part
            if column and column + len(part) > 46:
                says.append("\n")
                column = 0
            says.append(part, style).append("  ")
            column += len(part) + 2
        table.add_row(f"{film.title} ({film.year})", "+".join(prediction.inputs), says)
    console = Console(width=100 if not sys.stdout.isatty() else min(100, Console().width), highlight=False)
    console.print(table)
    score = 2 * hits / max(1, chosen + true)
    print(f"{len(pairs)} films that the model was not trained on. {right} right, {wrong} wrong, by TMDB's genres.")
    print(f"The first genre is right for {first}; micro-F1 {score:.2f}; {unsure} are marked not sure.")


def as_typed() -> str:
    """Return how to call this mmgcs from the current folder: `mmgcs`, or its path if a shell would not find it."""
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
