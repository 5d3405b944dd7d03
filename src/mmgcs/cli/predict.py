"""`mmgcs predict` and `mmgcs explain`: the genres of one film, and what speaks for and against them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmgcs.cli.options import AsJson, Model
from mmgcs.cli.output import bar, examples, new_app, print_json, say
from mmgcs.errors import UsageError
from mmgcs.film import Film

if TYPE_CHECKING:
    from mmgcs.film import Prediction
    from mmgcs.runtime import Classifier, Explanation

app = new_app()

WORDS = 8
"""The words that `explain` shows for a genre."""

_film = partial(Option, rich_help_panel="The film")
Plot = Annotated[str | None, _film("--plot", metavar="TEXT", help="The plot in prose.")]
PlotFile = Annotated[Path | None, _film("--plot-file", metavar="FILE", help="A text file with the plot; - for stdin.")]
Poster = Annotated[Path | None, _film("--poster", metavar="FILE", help="An image file.")]
Title = Annotated[str | None, _film("--title", metavar="TEXT", help="The title; it helps alongside a plot.")]
_output = partial(Option, rich_help_panel="Output")


@app.command(
    epilog=examples(
        'mmgcs predict --plot "Two detectives hunt a killer through the city."',
        "mmgcs predict --poster poster.jpg --plot-file plot.txt --json",
    )
)
def predict(
    plot: Plot = None,
    plot_file: PlotFile = None,
    poster: Poster = None,
    title: Title = None,
    model: Model = None,
    explain: Annotated[
        bool, Option("--explain", help="Show which words and poster regions support each genre.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Predict the genres of one film, from its plot, its poster, or both."""
    film = _read_film(plot, plot_file, poster, title)
    if explain:
        from mmgcs.runtime import load

        _explain(load(model), film, as_json=as_json)
        return
    from mmgcs.bundle import Bundle, bundle_folder

    bundle = Bundle(bundle_folder(model))
    # Read and check the graphs while onnxruntime is imported: both take a large part of the whole time.
    bundle.read_ahead(branch.graph for branch in bundle.config.branches if getattr(film, branch.input) is not None)
    from mmgcs.runtime import Classifier

    # One thread: starting a second takes longer than it saves on one film.
    prediction = Classifier(bundle, threads=1, once=True).predict(film.plot, film.poster, title=film.title)
    if as_json:
        print_json(prediction.to_dict())
    else:
        _print_prediction(prediction)


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
        _output(metavar="NAME", help="A genre to explain; may be repeated.", show_default="the predicted genres"),
    ] = None,
    html: Annotated[Path | None, _output(metavar="FILE", help="Write an HTML page.")] = None,
    png: Annotated[Path | None, _output(metavar="FILE", help="Write an image.")] = None,
    overwrite: Annotated[bool, _output("--overwrite", help="Replace an existing page or image.")] = False,
    as_json: AsJson = False,
) -> None:
    """Explain a film's genres: hide words and poster regions, and show how much each genre's log-odds fall.

    Contributions are in log-odds: +0.7 doubles a genre's odds, -0.7 halves them.
    """
    from mmgcs.files import check_free
    from mmgcs.runtime import load

    film = _read_film(plot, plot_file, poster, title)
    for option, path in (("--html", html), ("--png", png)):
        if path is not None:
            check_free(path, option, overwrite=overwrite)
    _explain(load(model), film, genre, as_json=as_json, html=html, png=png)


def _read_film(plot: str | None, plot_file: Path | None, poster: Path | None, title: str | None) -> Film:
    """Return the film that the options describe. A plot file may be in UTF-8, UTF-16 or Windows-1252."""
    if plot is not None and plot_file is not None:
        raise UsageError("--plot and --plot-file were both given; give one")
    if plot is None and plot_file is None and poster is None:
        raise UsageError("there is nothing to predict from; give --plot, --plot-file or --poster")
    if plot_file is not None:
        from mmgcs.files import decode_text

        try:
            data = sys.stdin.buffer.read() if plot_file == Path("-") else plot_file.read_bytes()
        except OSError as error:
            raise UsageError(f"the plot file {plot_file} cannot be read ({error.strerror or error})") from None
        plot = decode_text(data)
        if "\0" in plot:  # a Word document or PDF, which would be read as nonsense
            raise UsageError(f"the plot file {plot_file} is not text; save the plot as plain text (.txt)")
    return Film(title=title, plot=plot, poster=poster)


def _print_prediction(prediction: Prediction) -> None:
    """Print a prediction: a bar per genre, most probable first, then the verdict. Warnings go to stderr."""
    for warning in prediction.warnings:
        say(f"mmgcs: warning: {warning}")
    width = max(map(len, prediction.probabilities))
    for genre, probability in sorted(prediction.probabilities.items(), key=lambda pair: -pair[1]):
        mark = "*" if genre in prediction.genres else " "
        print(f"{mark} {genre:<{width}}  {probability:4.0%}  {bar(probability)}")
    answer = "no genre is likely enough."
    if prediction.genres:
        answer = f"{', '.join(prediction.genres)} (confidence {prediction.confidence:.0%})."
    print(f"\nFrom the {' and '.join(prediction.inputs)}: {answer}")
    if not prediction.sure:
        print("NOT SURE: worth a human look.")
    if prediction.undecided:
        print(f"Undecided: {', '.join(prediction.undecided)}.")


def _explain(
    classifier: Classifier,
    film: Film,
    genres: Sequence[str] | None = None,
    *,
    as_json: bool,
    html: Path | None = None,
    png: Path | None = None,
) -> None:
    """Print an explanation as text or JSON; also write it as a page or an image if requested."""
    from mmgcs.files import atomic_path
    from mmgcs.runtime import explain as run
    from mmgcs.runtime import explanation_page, read_poster, to_png

    explanation = run(classifier, film, genres)
    image = read_poster(classifier, film) if html or png else None
    if html is not None:
        with atomic_path(html) as temporary:
            temporary.write_text(explanation_page(explanation, image), encoding="utf-8")
    if png is not None:
        with atomic_path(png) as temporary:
            temporary.write_bytes(to_png(explanation, image))
    if as_json:
        print_json({**explanation.prediction.to_dict(), "explanation": explanation.to_json()})
        return
    _print_prediction(explanation.prediction)
    _print_explanation(explanation)


def _print_explanation(explanation: Explanation) -> None:
    """Print how much each input, word and region contributes to each genre's log-odds."""
    print("\nContributions in log-odds (+ speaks for the genre, - against it):")
    for genre in explanation.genres:
        print(f"\n{genre} {explanation.prediction.probabilities[genre]:.0%}")
        for name, value in explanation.inputs.get(genre, {}).items():
            print(f"  {value:+6.2f}  the whole {name}")
        ranked = sorted(explanation.spans, key=lambda span: -abs(span.drops[genre]))[:WORDS]
        longest = max((abs(span.drops[genre]) for span in ranked), default=0.0) or 1.0
        for span in sorted(ranked, key=lambda span: -span.drops[genre]):
            value = span.drops[genre]
            print(f"  {value:+6.2f}  {bar(abs(value) / longest, 10)}  {explanation.text[span.start : span.end]}")
        if genre in explanation.regions:
            print("  regions of the poster:")
            for row in explanation.regions[genre]:
                print("    " + " ".join(f"{value:+6.2f}" for value in row))
    if explanation.attention:
        attended = sorted(explanation.attention, key=lambda one: -one.weight)[:WORDS]
        print("\nAttention (where the model looked, not necessarily why):")
        print("  " + ", ".join(f"{one.word} {one.weight:.2f}" for one in attended))
