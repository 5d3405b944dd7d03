"""`mmgcs predict`: the genres of one film."""

from __future__ import annotations

from typing import Annotated

import typer

from mmgcs.cli.options import AsJson, Model, Plot, PlotFile, Poster, Title, read_film
from mmgcs.cli.output import examples, new_app, prediction_text, print_json, say

app = new_app("Predict the genres of one film, from its plot, its poster, or both.")


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
        bool, typer.Option("--explain", help="Show which words and poster regions speak for each genre.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Predict the genres of one film, from its plot, its poster, or both."""
    film = read_film(plot, plot_file, poster, title)
    if explain:
        from mmgcs.cli.explain import show_explanation
        from mmgcs.runtime import load

        show_explanation(load(model), film, as_json=as_json)
        return
    from mmgcs.bundle import DEFAULT_BUNDLE, Bundle

    bundle = Bundle(model or DEFAULT_BUNDLE)
    # The graphs are read and checked while onnxruntime is imported; each takes a large part of the whole time.
    bundle.read_ahead(branch.graph for branch in bundle.config.branches if getattr(film, branch.input) is not None)
    from mmgcs.runtime import Classifier

    # One thread: starting a second takes longer than it saves on one film.
    prediction = Classifier(bundle, threads=1).predict(film.plot, film.poster, title=film.title)
    if as_json:
        print_json(prediction.to_dict())
        return
    for warning in prediction.warnings:
        say(f"mmgcs: warning: {warning}")
    print(prediction_text(prediction))
