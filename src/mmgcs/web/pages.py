"""The web pages, and the sample films that they offer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Blueprint, render_template, request, send_file, url_for
from markdown_it import MarkdownIt
from werkzeug.exceptions import NotFound

from mmgcs.bundle import CARD_TEXT
from mmgcs.film import Film
from mmgcs.sample import sample_films, sample_table
from mmgcs.tables import READERS
from mmgcs.version import __version__
from mmgcs.web.charts import conditions, films_by, section
from mmgcs.web.openapi import description
from mmgcs.web.state import state

blueprint = Blueprint("pages", __name__)


@blueprint.app_context_processor
def shared_values() -> dict[str, Any]:
    """Return the values that every page shows, including the error page."""
    settings = state().settings
    return {
        "model": state().classifier.bundle.config,
        "limits": settings,
        "keyed": bool(settings.api_key),
        "root": url_for("pages.index"),
        "version": __version__,
    }


@blueprint.get("/")
def index() -> str:
    """Show the page for one film."""
    # Films with a poster come first in the gallery.
    samples = sorted(enumerate(sample_films()), key=lambda one: one[1].poster is None)
    decisions = state().classifier.bundle.config.decisions
    required = {inputs: decision.confidence for inputs, decision in decisions.items()}
    return render_template("index.html", samples=samples, required=required)


@blueprint.get("/tables")
def tables() -> str:
    """Show the page for tables."""
    return render_template("tables.html", formats=READERS, samples=len(sample_films()))


@blueprint.get("/model")
def model() -> str:
    """Show what the model is."""
    bundle = state().classifier.bundle
    card = bundle.card()
    text = bundle.read(CARD_TEXT).decode("utf-8") if CARD_TEXT in bundle.files else ""
    return render_template(
        "model.html",
        card=markdown_to_html(text),
        fusion=section(card, "recipe", "fusion", "model").get("kind", bundle.config.fusion),
        languages=card.get("languages"),
        sizes={branch.name: len(bundle.read(branch.graph)) for branch in bundle.config.branches},
    )


def markdown_to_html(text: str) -> str:
    """Convert CommonMark with tables to HTML. HTML in the text is escaped, and headings start at h3.

    >>> markdown_to_html("# Card <b>")
    '<h3>Card &lt;b&gt;</h3>\\n'
    """
    # This preset is safe for untrusted text: a bundle may come from a stranger.
    parser = MarkdownIt("js-default")
    tokens = parser.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1:]) + 2)}"  # the page and the section have the first two levels
        if token.attrs.pop("style", None) == "text-align:right":  # the Content-Security-Policy forbids inline styles
            token.attrs["class"] = "number"
        if token.type == "table_open":
            token.attrs.update({"class": "scroll", "tabindex": 0})  # focusable, so that keys can scroll it
    return str(parser.renderer.render(tokens, parser.options, {}))


@blueprint.get("/data")
def data() -> str:
    """Show what the model learned from."""
    card = state().classifier.bundle.card()
    found = section(card, "data")
    return render_template(
        "data.html",
        splits=section(found, "splits"),
        sources=found.get("sources", []),
        counts=films_by(card),
        films=state().films,
    )


# Not /metrics, which is for Prometheus.
@blueprint.get("/scores")
def scores() -> str:
    """Show how good the model is."""
    card = state().classifier.bundle.card()
    note = section(card, "evaluation").get("baseline_note")
    return render_template("scores.html", conditions=conditions(card), note=note)


@blueprint.get("/api")
def api() -> str:
    """Show how to use the API."""
    address = request.url_root.rstrip("/")
    return render_template("api.html", address=address, description=description(state().settings))


@blueprint.get("/about")
def about() -> str:
    """Show what MMGCS is, and what happens to people's data."""
    return render_template("about.html")


@blueprint.get("/samples.csv")
def sample_list() -> Any:
    """Return the sample films as a table."""
    return send_file(sample_table(), as_attachment=True, download_name="samples.csv", mimetype="text/csv")


@blueprint.get("/samples/<int:number>")
def sample(number: int) -> Any:
    """Return one of the sample films."""
    film = _sample(number)
    poster = url_for(".sample_poster", number=number) if film.poster else None
    return {"title": film.title, "plot": film.plot, "poster": poster}


@blueprint.get("/samples/<int:number>/poster")
def sample_poster(number: int) -> Any:
    """Return a sample film's poster."""
    poster = _sample(number).poster
    if not isinstance(poster, Path):
        raise NotFound("this sample film has no poster")
    return send_file(poster, mimetype="image/jpeg", max_age=86_400)


def _sample(number: int) -> Film:
    films = sample_films()
    if number >= len(films):
        raise NotFound("there is no such sample film")
    return films[number]
