"""The pages, and the sample films that they offer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Blueprint, render_template, request, send_file, url_for

import mmgcs
from mmgcs.bundle import CARD_TEXT
from mmgcs.film import Film
from mmgcs.sample import sample_films
from mmgcs.web.api import state
from mmgcs.web.card import conditions, films_by, sources, splits
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
    """What the model is."""
    bundle = state().classifier.bundle
    card = bundle.card()
    fusion = card.get("recipe", {}).get("fusion", {}).get("model", {}).get("kind", bundle.config.fusion)
    text = bundle.read(CARD_TEXT).decode("utf-8") if CARD_TEXT in bundle.files else ""
    return render_template("model.html", card=text, fusion=fusion, versions={"mmgcs": mmgcs.__version__})


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
    root = request.url_root.rstrip("/")
    keyed = state().settings.api_key != ""
    curl_key = ' -H "Authorization: Bearer $KEY"' if keyed else ""
    python_key = ', "Authorization": f"Bearer {os.environ[\'KEY\']}"' if keyed else ""
    curl = f"""curl {root}/api/v1/predict{curl_key} \\
  -F plot="Two detectives hunt a killer." -F poster=@poster.jpg -F explain=true"""
    python = f"""import json{", os" if keyed else ""}, urllib.request

request = urllib.request.Request(
    "{root}/api/v1/predict",
    json.dumps({{"plot": "Two detectives hunt a killer."}}).encode(),
    {{"Content-Type": "application/json"{python_key}}},
)
with urllib.request.urlopen(request) as response:
    print(json.load(response)["genres"])"""
    table = f"""# Answers with the job's id; then ask how far it is, and fetch the result.
curl {root}/api/v1/batch{curl_key} -F file=@films.csv
curl {root}/api/v1/batch/ID
curl {root}/api/v1/batch/ID/result --output tagged.csv"""
    examples = [("curl", curl), ("Python", python), ("A whole table", table)]
    return render_template("api.html", examples=examples, description=description(state().settings))


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
