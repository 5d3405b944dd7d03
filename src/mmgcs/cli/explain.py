"""`mmgcs explain`: which words and regions moved each genre, and how much came from each input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmgcs.cli.output import bar, print_json, say
from mmgcs.cli.predict import as_text, as_value, film_parser, given_film

if TYPE_CHECKING:
    from mmgcs.film import Film
    from mmgcs.runtime import Classifier
    from mmgcs.runtime.explain import Explanation

WORDS = 8


def run(program: str, args: Sequence[str]) -> int:
    """Explain one film's prediction."""
    parser = film_parser(program, "Why a film got its genres.")
    parser.add_argument(
        "--genre", action="append", metavar="NAME", help="a genre to explain; the chosen ones without it"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page to look at")
    parser.add_argument("--png", type=Path, metavar="FILE", help="write a picture to look at")
    parser.add_argument("--overwrite", action="store_true", help="replace a page or picture that is there")
    try:
        given = parser.parse_args(args)
    except SystemExit as stop:  # --help was printed
        return int(stop.code or 0)
    film = given_film(given)
    from mmgcs.files import check_free
    from mmgcs.runtime import load

    for option, path in (("--html", given.html), ("--png", given.png)):
        if path is not None:
            check_free(path, option, overwrite=given.overwrite)
    show(load(given.model), film, given.genre, as_json=given.as_json, html=given.html, png=given.png)
    return 0


def show(
    classifier: Classifier,
    film: Film,
    genres: Sequence[str] | None = None,
    *,
    as_json: bool,
    html: Path | None = None,
    png: Path | None = None,
) -> None:
    """Explain a film and print it as text or JSON; also write a page or a picture where asked."""
    from mmgcs.runtime.explain import explain

    explanation = explain(classifier, film, genres)
    if html is not None or png is not None:
        from mmgcs.files import atomic_writer
        from mmgcs.runtime.picture import read_poster, to_html, to_png

        poster = read_poster(classifier, film)
        if html is not None:
            with atomic_writer(html) as page:
                page.write(to_html(explanation, poster))
        if png is not None:
            from mmgcs.files import atomic_path

            with atomic_path(png) as temporary:
                temporary.write_bytes(to_png(explanation, poster))
    if as_json:
        print_json({**as_value(explanation.prediction), "explanation": explanation.to_json()})
        return
    for warning in explanation.prediction.warnings:
        say(f"mmgcs: warning: {warning}")
    print(as_text(explanation.prediction))
    print()
    print(explanation_text(explanation))


def explanation_text(explanation: Explanation) -> str:
    """An explanation for a person: what each genre's probability loses without an input, a word or a region."""
    lines = ["What a genre's probability loses without it (minus: what it gains):"]
    if len(explanation.shares) > 1:
        shares = ", ".join(f"{share:.0%} from the {name}" for name, share in explanation.shares.items())
        lines.append(f"  of all that moved these genres, {shares}")
    for genre in explanation.genres:
        lines += ["", f"{genre} {explanation.prediction.probabilities[genre]:.0%}"]
        for name, drop in explanation.inputs.get(genre, {}).items():
            lines.append(f"  {drop:+.2f}  the whole {name}")
        ranked = sorted(explanation.spans, key=lambda span: -abs(span.drops[genre]))[:WORDS]
        for span in sorted(ranked, key=lambda span: -span.drops[genre]):
            drop = span.drops[genre]
            lines.append(f"  {drop:+.2f}  {bar(abs(drop), 10)}  {explanation.text[span.start : span.end]}")
        if genre in explanation.regions:
            lines += ["  the poster's regions:", *(
                "    " + "  ".join(f"{drop:+.2f}" for drop in row) for row in explanation.regions[genre]
            )]  # fmt: skip
    if explanation.attention:
        ranked_words = sorted(explanation.attention, key=lambda one: -one.weight)[:WORDS]
        lines += ["", "Attention (where the model looked, which is no cause): "]
        lines.append("  " + ", ".join(f"{one.word} {one.weight:.2f}" for one in ranked_words))
    return "\n".join(lines)
