"""`mmgcs predict`: the genres of one film."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mmgcs.cli.output import bar, print_json, say
from mmgcs.errors import UsageError

if TYPE_CHECKING:
    from mmgcs.film import Film, Prediction

MAX_PLOT_BYTES = 64 * 2**20


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def film_parser(program: str, description: str) -> argparse.ArgumentParser:
    """A parser of what names one film and a model."""
    parser = _Parser(program, description=description, allow_abbrev=False)
    parser.add_argument("--plot", metavar="TEXT", help="the plot in prose")
    parser.add_argument("--plot-file", metavar="FILE", type=Path, help="a text file that holds the plot; - for stdin")
    parser.add_argument("--poster", metavar="FILE", type=Path, help="a picture file")
    parser.add_argument("--title", metavar="TEXT", help="the title, which helps beside a plot")
    parser.add_argument("--model", metavar="DIR", type=Path, help="a bundle's folder; the shipped one without it")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print one JSON value")
    return parser


def run(program: str, args: Sequence[str]) -> int:
    """Predict one film's genres; the whole command, without typer, whose imports take longer than the prediction."""
    try:
        parser = film_parser(program, "Genres of one film, from its plot, its poster, or both.")
        parser.add_argument("--explain", action="store_true", help="say which words and regions moved each genre")
        given = parser.parse_args(args)
    except SystemExit as stop:  # --help was printed
        return int(stop.code or 0)
    film = given_film(given)
    if given.explain:
        from mmgcs.cli.explain import show
        from mmgcs.runtime import load

        show(load(given.model), film, as_json=given.as_json)
        return 0
    from mmgcs.bundle import DEFAULT_BUNDLE, Bundle

    bundle = Bundle(given.model or DEFAULT_BUNDLE)
    # The graphs are read and checked while onnxruntime is imported; either takes a good part of the whole.
    bundle.read_ahead(branch.graph for branch in bundle.config.branches if getattr(film, branch.input) is not None)
    from mmgcs.runtime import Classifier

    # One thread: making a second takes longer than it saves on one film.
    prediction = Classifier(bundle, threads=1).predict(film.plot, film.poster, title=film.title)
    if given.as_json:
        print_json(as_value(prediction))
        return 0
    for warning in prediction.warnings:
        say(f"mmgcs: warning: {warning}")
    print(as_text(prediction))
    return 0


def given_film(given: argparse.Namespace) -> Film:
    """The film that the arguments of `film_parser` name.

    Raises:
        UsageError: there is no plot and no poster, or the plot twice.
    """
    if given.plot is not None and given.plot_file is not None:
        raise UsageError("--plot and --plot-file were both given; give one")
    if given.plot is None and given.plot_file is None and given.poster is None:
        raise UsageError("there is nothing to predict from; give --plot, --plot-file or --poster")
    from mmgcs.film import Film

    plot = given.plot if given.plot_file is None else _read_plot(given.plot_file)
    return Film(title=given.title, plot=plot, poster=given.poster)


def as_value(prediction: Prediction) -> dict[str, Any]:
    """A prediction as JSON holds it."""
    return {
        "genres": list(prediction.genres),
        "probabilities": dict(prediction.probabilities),
        "inputs": list(prediction.inputs),
        "confidence": prediction.confidence,
        "sure": prediction.sure,
        "possible": list(prediction.possible),
        "undecided": list(prediction.undecided),
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
    said = f"From the {read}: {chosen} (confidence {prediction.confidence:.0%}).{sure}"
    left_open = [f"Undecided: {', '.join(prediction.undecided)}."] if prediction.undecided else []
    return "\n".join([*lines, "", said, *left_open])


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
