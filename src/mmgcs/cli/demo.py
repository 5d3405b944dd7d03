"""`mmgcs demo`: tag the shipped sample and compare with the true genres."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmgcs.cli.options import AsJson, Model
from mmgcs.cli.output import examples, new_app, print_json, stdout_is_unicode

if TYPE_CHECKING:
    from mmgcs.film import Film, Prediction

app = new_app()


@app.command(epilog=examples("mmgcs demo", "mmgcs demo --copy practice"))
def demo(
    model: Model = None,
    copy: Annotated[
        Path | None,
        Option(metavar="DIR", help="Only copy the sample into this folder: films.csv, posters/, plot.txt, poster.jpg."),
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
                {"id": film.id, "title": film.title, "given_genres": list(film.genres or ())} | prediction.to_dict()
                for film, prediction in pairs
            ]
        )
        return
    print_comparison(pairs)
    typed = as_typed()
    print("\nTry your own:")
    print(f'  {typed} predict --plot "Two detectives hunt a killer through the city\'s underworld."')
    print(f'  {typed} explain --plot "A vampire count preys on a sleepy village."')
    print(f"  {typed} demo --copy practice      # a table, posters and a plot to practise with")
    print(f"  {typed} tag practice/films.csv --out tagged.csv")
    print(f"  {typed} serve                     # the web page, with these posters")


def print_comparison(pairs: Sequence[tuple[Film, Prediction]]) -> None:
    """Print each film's predicted genres, marked right or wrong, in lines of at most 100 columns."""
    right, wrong, dots = ("✓", "✗", "…") if stdout_is_unicode() else ("+", "x", "...")
    print(f"{'film':36}  {'read':11}  predicted, most probable first")
    hits = chosen = true = unsure = first = 0
    for film, prediction in pairs:
        given = film.genres or ()
        hits += len(set(given) & set(prediction.genres))
        chosen += len(prediction.genres)
        true += len(given)
        unsure += not prediction.sure
        first += bool(prediction.genres) and prediction.genres[0] in given
        parts = [
            f"{right if genre in given else wrong} {genre} {prediction.probabilities[genre]:.0%}"
            for genre in prediction.genres
        ] or [prediction.error or "no genre is likely enough"]
        parts += [f"missed {genre}" for genre in given if genre not in prediction.genres]
        if not prediction.sure:
            parts.append("(not sure)")
        name = f"{textwrap.shorten(film.title or '', 29, placeholder=dots)} ({film.year})"
        indent = f"{name:36}  {'+'.join(prediction.inputs):11}  "
        # The spaces inside a part are replaced while lines are wrapped, so that no line breaks there.
        text = "  ".join(part.replace(" ", "\0") for part in parts)
        print(textwrap.fill(text, 100, initial_indent=indent, subsequent_indent=" " * 51).replace("\0", " "))
    score = 2 * hits / max(1, chosen + true)
    print(f"\n{len(pairs)} films that the model was not trained on. {right} right, {wrong} wrong, by TMDB's genres.")
    print(f"The first genre is right for {first}; micro-F1 {score:.2f}; {unsure} are marked not sure.")


def as_typed() -> str:
    """Return the command that runs this mmgcs: `mmgcs`, or its path if the shell would not find it."""
    if shutil.which("mmgcs") is not None:
        return "mmgcs"
    installed = shutil.which("mmgcs", path=str(Path(sys.executable).parent))
    words = [sys.executable, "-m", "mmgcs"] if installed is None else [installed]
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
