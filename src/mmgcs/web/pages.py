"""The pages, and the sample films that they offer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flask import Blueprint, render_template, request, send_file, url_for

from mmgcs.film import Film
from mmgcs.sample import sample_films
from mmgcs.web.api import state
from mmgcs.web.errors import NotFoundError
from mmgcs.web.openapi import description

blueprint = Blueprint("pages", __name__)


@blueprint.context_processor
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
    return render_template("tables.html")


@blueprint.get("/model")
def model() -> str:
    """What the model is and was measured to do."""
    card = json.dumps(state().classifier.bundle.card(), indent=2, ensure_ascii=False)
    return render_template("model.html", card=card)


@blueprint.get("/api")
def api() -> str:
    """How to use the API."""
    root = request.url_root.rstrip("/")
    curl = (
        f"""curl {root}/api/v1/predict -F plot="Two detectives hunt a killer." -F poster=@poster.jpg -F explain=true"""
    )
    python = f"""import json, urllib.request

request = urllib.request.Request(
    "{root}/api/v1/predict",
    json.dumps({{"plot": "Two detectives hunt a killer."}}).encode(),
    {{"Content-Type": "application/json"}},
)
with urllib.request.urlopen(request) as response:
    print(json.load(response)["genres"])"""
    table = f"curl {root}/api/v1/batch -F file=@films.csv"
    examples = [("curl", curl), ("Python", python), ("A whole table", table)]
    return render_template("api.html", examples=examples, paths=description(state().settings)["paths"])


@blueprint.get("/about")
def about() -> str:
    """What this is."""
    return render_template("about.html")


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
