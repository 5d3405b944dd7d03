"""`mmgcs explain`: which words and poster regions speak for and against each genre."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmgcs.cli.options import AsJson, Model, Plot, PlotFile, Poster, Title, read_film
from mmgcs.cli.output import bar, examples, new_app, prediction_text, print_json, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmgcs.film import Film
    from mmgcs.runtime import Classifier, Explanation

app = new_app("Explain why a film got its genres.")

WORDS = 8


@app.command(
    epilog=examples(
        'mmgcs explain --plot "A vampire count preys on a sleepy village."',
        "mmgcs explain --poster poster.jpg --plot-file plot.txt --genre Horror --html why.html",
    )
)
def explain(
    plot: Plot = None,
    plot_file: PlotFile = None,
    poster: Poster = None,
    title: Title = None,
    model: Model = None,
    genre: Annotated[
        list[str] | None,
        typer.Option(
            "--genre",
            metavar="NAME",
            help="A genre to explain; may be repeated.",
            show_default="the predicted genres",
            rich_help_panel="Output",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", help="Write an HTML page.", rich_help_panel="Output", show_default=False
        ),
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option("--png", metavar="FILE", help="Write an image.", rich_help_panel="Output", show_default=False),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing page or image.", rich_help_panel="Output")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Explain why a film got its genres: hide words and poster regions, and show how much each genre loses.

    Contributions are in log-odds: +0.7 doubles a genre's odds, -0.7 halves them.
    """
    film = read_film(plot, plot_file, poster, title)
    from mmgcs.files import check_free
    from mmgcs.runtime import load

    for option, path in (("--html", html), ("--png", png)):
        if path is not None:
            check_free(path, option, overwrite=overwrite)
    show_explanation(load(model), film, genre, as_json=as_json, html=html, png=png)


def show_explanation(
    classifier: Classifier,
    film: Film,
    genres: Sequence[str] | None = None,
    *,
    as_json: bool,
    html: Path | None = None,
    png: Path | None = None,
) -> None:
    """Explain a film and print it as text or JSON; also write a page or an image if asked."""
    from mmgcs.runtime import explain as run

    explanation = run(classifier, film, genres)
    if html is not None or png is not None:
        from mmgcs.files import atomic_path
        from mmgcs.runtime import read_poster, to_html, to_png

        image = read_poster(classifier, film)
        if html is not None:
            with atomic_path(html) as temporary:
                temporary.write_text(to_html(explanation, image), encoding="utf-8")
        if png is not None:
            with atomic_path(png) as temporary:
                temporary.write_bytes(to_png(explanation, image))
    if as_json:
        print_json({**explanation.prediction.to_dict(), "explanation": explanation.to_json()})
        return
    for warning in explanation.prediction.warnings:
        say(f"mmgcs: warning: {warning}")
    print(prediction_text(explanation.prediction))
    print()
    print(explanation_text(explanation))


def explanation_text(explanation: Explanation) -> str:
    """Return an explanation for a person: for each genre what its log-odds owe to each input, word and region."""
    lines = ["Contributions in log-odds (+ speaks for the genre, - against it):"]
    for genre in explanation.genres:
        lines += ["", f"{genre} {explanation.prediction.probabilities[genre]:.0%}"]
        lines += [f"  {value:+6.2f}  the whole {name}" for name, value in explanation.inputs.get(genre, {}).items()]
        ranked = sorted(explanation.spans, key=lambda span: -abs(span.drops[genre]))[:WORDS]
        longest = max((abs(span.drops[genre]) for span in ranked), default=0.0) or 1.0
        for span in sorted(ranked, key=lambda span: -span.drops[genre]):
            value = span.drops[genre]
            words = explanation.text[span.start : span.end]
            lines.append(f"  {value:+6.2f}  {bar(abs(value) / longest, 10)}  {words}")
        if genre in explanation.regions:
            lines.append("  regions of the poster:")
            lines += ["    " + " ".join(f"{value:+6.2f}" for value in row) for row in explanation.regions[genre]]
    if explanation.attention:
        attended = sorted(explanation.attention, key=lambda one: -one.weight)[:WORDS]
        lines += ["", "Attention (where the model looked, which need not be why):"]
        lines.append("  " + ", ".join(f"{one.word} {one.weight:.2f}" for one in attended))
    return "\n".join(lines)
