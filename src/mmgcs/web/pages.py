"""The pages, and the sample films that they offer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Blueprint, render_template, request, send_file, url_for

import mmgcs
from mmgcs.bundle import CARD_TEXT
from mmgcs.film import Film
from mmgcs.sample import sample_films, sample_table
from mmgcs.tables import READERS
from mmgcs.web.card import conditions, films_by, sources, splits
from mmgcs.web.errors import NotFoundError
from mmgcs.web.examples import examples
from mmgcs.web.markdown import to_html
from mmgcs.web.openapi import TAGS, description
from mmgcs.web.state import state

blueprint = Blueprint("pages", __name__)


@blueprint.app_context_processor
def shared() -> dict[str, Any]:
    """What every page shows."""
    here = state()
    return {
        "model": here.classifier.bundle.config,
        "limits": here.settings,
        "keyed": bool(here.settings.api_key),
    }


@blueprint.get("/")
def index() -> str:
    """The page for one film."""
    return render_template("index.html", samples=sample_films())


@blueprint.get("/tables")
def tables() -> str:
    """The page for tables."""
    return render_template("tables.html", formats=READERS, samples=len(sample_films()))


@blueprint.get("/model")
def model() -> str:
    """What the model is."""
    bundle = state().classifier.bundle
    card = bundle.card()
    fusion = card.get("recipe", {}).get("fusion", {}).get("model", {}).get("kind", bundle.config.fusion)
    text = bundle.read(CARD_TEXT).decode("utf-8") if CARD_TEXT in bundle.files else ""
    sizes = {branch.name: len(bundle.read(branch.graph)) for branch in bundle.config.branches}
    return render_template(
        "model.html", card=to_html(text), fusion=fusion, sizes=sizes, versions={"mmgcs": mmgcs.__version__}
    )


@blueprint.get("/data")
def data() -> str:
    """What the model learned from."""
    card = state().classifier.bundle.card()
    return render_template(
        "data.html", splits=splits(card), sources=sources(card), counts=films_by(card), films=state().films
    )


# /metrics is Prometheus's.
@blueprint.get("/scores")
def scores() -> str:
    """What the model was measured to do."""
    card = state().classifier.bundle.card()
    note = card.get("evaluation", {}).get("baseline_note")
    return render_template("scores.html", conditions=conditions(card), note=note)


@blueprint.get("/api")
def api() -> str:
    """How to use the API."""
    described = description(state().settings)
    groups = {
        text: [
            (path, method, operation)
            for path, methods in described["paths"].items()
            for method, operation in methods.items()
            if name in operation["tags"]
        ]
        for name, text in TAGS.items()
    }
    return render_template(
        "api.html",
        examples=examples(request.url_root.rstrip("/"), bool(state().settings.api_key)),
        groups=groups,
        description=described,
    )


@blueprint.get("/about")
def about() -> str:
    """What this is."""
    return render_template("about.html")


@blueprint.get("/samples.csv")
def sample_list() -> Any:
    """The sample films as a table."""
    return send_file(sample_table(), as_attachment=True, download_name="samples.csv", mimetype="text/csv")


@blueprint.get("/samples/<int:number>")
def sample(number: int) -> Any:
    """One of the sample films."""
    film = _sample(number)
    poster = url_for(".sample_poster", number=number) if isinstance(film.poster, Path) else None
    return {"title": film.title, "plot": film.plot, "poster": poster}


@blueprint.get("/samples/<int:number>/poster")
def sample_poster(number: int) -> Any:
    """A sample film's poster."""
    film = _sample(number)
    if not isinstance(film.poster, Path):
        raise NotFoundError("this sample film has no poster")
    return send_file(film.poster)


def _sample(number: int) -> Film:
    films = sample_films()
    if number >= len(films):
        raise NotFoundError("there is no such sample film")
    return films[number]
