"""`mmgcs predict`: the genres of one film."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmgcs.cli.output import bar, new_app, print_json, say
from mmgcs.errors import UsageError

if TYPE_CHECKING:
    from mmgcs.film import Prediction

app = new_app("Genres of one film, from its plot, its poster, or both.")

MAX_PLOT_BYTES = 64 * 2**20


@app.command()
def predict(
    plot: Annotated[str | None, typer.Option(help="The plot in prose.")] = None,
    plot_file: Annotated[Path | None, typer.Option(help="A text file that holds the plot; - for stdin.")] = None,
    poster: Annotated[Path | None, typer.Option(help="A picture file.")] = None,
    title: Annotated[str | None, typer.Option(help="The title, which helps beside a plot.")] = None,
    model: Annotated[Path | None, typer.Option(help="The folder of a bundle; the shipped one without it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
) -> None:
    """Genres of one film, from its plot, its poster, or both."""
    if plot is not None and plot_file is not None:
        raise UsageError("--plot and --plot-file were both given; give one")
    if plot is None and plot_file is None and poster is None:
        raise UsageError("there is nothing to predict from; give --plot, --plot-file or --poster")
    if plot_file is not None:
        plot = _read_plot(plot_file)
    from mmgcs.runtime import load

    prediction = load(model).predict(plot, poster, title=title)
    if as_json:
        print_json(as_value(prediction))
        return
    for warning in prediction.warnings:
        say(f"mmgcs: warning: {warning}")
    print(as_text(prediction))


def as_value(prediction: Prediction) -> dict[str, Any]:
    """A prediction as JSON holds it."""
    return {
        "genres": list(prediction.genres),
        "probabilities": dict(prediction.probabilities),
        "inputs": list(prediction.inputs),
        "confidence": prediction.confidence,
        "sure": prediction.sure,
        "warnings": list(prediction.warnings),
    }


def as_text(prediction: Prediction) -> str:
    """A prediction for a person: a bar a genre, the chosen ones marked, and whether it is sure."""
    width = max(map(len, prediction.probabilities))
    ranked = sorted(prediction.probabilities.items(), key=lambda pair: -pair[1])
    lines = [
        f"{'*' if genre in prediction.genres else ' '} {genre:<{width}}  {probability:4.0%}  {bar(probability)}"
        for genre, probability in ranked
    ]
    read = " and ".join(prediction.inputs)
    chosen = ", ".join(prediction.genres) or "no genre is likely enough"
    sure = "" if prediction.sure else "  NOT SURE: worth a human look."
    return "\n".join([*lines, "", f"From the {read}: {chosen} (confidence {prediction.confidence:.0%}).{sure}"])


def _read_plot(path: Path) -> str:
    try:
        if path == Path("-"):
            data = sys.stdin.buffer.read(MAX_PLOT_BYTES + 1)
        else:
            with path.open("rb") as handle:
                data = handle.read(MAX_PLOT_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"the plot file {path} does not exist; check the path") from None
    except OSError as error:
        raise UsageError(f"the plot file {path} cannot be read ({error.strerror or error})") from None
    if len(data) > MAX_PLOT_BYTES:
        raise UsageError(f"{path} is larger than {MAX_PLOT_BYTES // 2**20} MiB, which is no plot; give a shorter text")
    return data.decode("utf-8-sig", errors="replace")
