"""The API: the original's two addresses, and version 1."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, current_app, g, jsonify, request, send_file

import mmgcs
from mmgcs.film import Film, Prediction
from mmgcs.runtime import Explanation, explain
from mmgcs.web.app import State
from mmgcs.web.errors import RequestError, UnprocessableError
from mmgcs.web.incoming import FORM, checked, film_of, form_fields, json_body, settings
from mmgcs.web.schemas import BatchIn, FilmIn, PredictIn

blueprint = Blueprint("api", __name__)

_YES = frozenset({"1", "true", "yes", "on"})


def state() -> State:
    """What the application's requests share."""
    found: State = current_app.extensions["mmgcs"]
    return found


@blueprint.post("/predict")
def predict_plot() -> Any:
    """The original's address for plots: `{"plot": …}` or `{"text": …}`, as JSON or a form."""
    value = json_body(request) if request.mimetype not in (FORM, "application/x-www-form-urlencoded") else request.form
    plot = next((value[name] for name in ("plot", "text") if value.get(name)), None) if hasattr(value, "get") else None
    if not isinstance(plot, str) or not plot.strip():
        raise RequestError('there is no plot; send {"plot": "…"}')
    title = value.get("title")
    given = checked(FilmIn, {"plot": plot, "title": title if isinstance(title, str) else None})
    return _legacy(film_of(given))


@blueprint.post("/predict_image")
def predict_poster() -> Any:
    """The original's address for posters: a form with the file `poster`."""
    poster = form_fields(request).get("poster")
    if not isinstance(poster, bytes) or not poster:
        raise RequestError("there is no poster; send a form with a file named poster")
    return _legacy(film_of(FilmIn(plot=None, title=None, poster=None), poster=poster))


def _legacy(film: Film) -> Any:
    prediction = _predict([film])[0]
    if prediction.error is not None:
        raise RequestError(prediction.error)
    return {
        "genres": list(prediction.top(3)),
        "chosen": list(prediction.genres),
        "probabilities": prediction.probabilities,
        "confidence": prediction.confidence,
        "sure": prediction.sure,
        "warnings": list(prediction.warnings),
    }


@blueprint.post("/api/v1/predict")
def predict() -> Any:
    """Predict one film from JSON, or from a form with the fields plot, title and explain and the file poster."""
    poster = None
    if request.mimetype == FORM:
        fields = form_fields(request)
        poster = fields.pop("poster", None)
        if isinstance(poster, str):
            if poster:
                raise UnprocessableError("poster: sent as text; send it as a file")
            poster = None
        fields["explain"] = str(fields.get("explain", "")).lower() in _YES
        if "genres" in fields:
            fields["genres"] = [name.strip() for name in str(fields["genres"]).split(",") if name.strip()]
        asked = checked(PredictIn, fields)
    else:
        asked = checked(PredictIn, json_body(request))
    film = film_of(asked, poster=poster or None)
    if not asked.explain:
        prediction = _predict([film])[0]
        if prediction.error is not None:
            raise UnprocessableError(prediction.error)
        return prediction_out(prediction)
    here = state()
    if asked.genres is not None:
        known = {genre.casefold() for genre in here.classifier.genres}
        if unknown := [genre for genre in asked.genres if genre.casefold() not in known]:
            raise UnprocessableError(f"genres: this model has no genre {unknown[0]!r}")
    with here.explaining.turn(g.until):
        explanation = explain(here.classifier, film, asked.genres)
    here.metrics.count([explanation.prediction])
    return prediction_out(explanation.prediction, explanation)


@blueprint.post("/api/v1/batch")
def batch() -> Any:
    """Predict many films: JSON is answered at once, a table (a form's file `file`) becomes a job."""
    if request.mimetype == FORM:
        return _start_job()
    asked = checked(BatchIn, json_body(request))
    limit = settings().max_batch
    if len(asked.films) > limit:
        raise UnprocessableError(
            f"films: {len(asked.films)} films, over the limit of {limit}; send a table, or several batches"
        )
    films = []
    for index, value in enumerate(asked.films):
        try:
            films.append(film_of(value, identity=value.id or ""))
        except RequestError as error:
            films.append(Film(id=value.id or "", problem=f"film {index}: {error}"))
    answers = _predict(films)
    return {
        "predictions": [
            {
                "id": value.id,
                "error": answer.error,
                "prediction": None if answer.error is not None else prediction_out(answer),
            }
            for value, answer in zip(asked.films, answers, strict=True)
        ]
    }


def _start_job() -> Any:
    request.max_content_length = settings().max_table
    file = request.files.get("file")
    if file is None or not file.filename:
        raise UnprocessableError("there is no table; send a form with a file named file")
    job = state().jobs.start(file.stream, file.filename)
    return jsonify(job.to_json()), 202, {"Location": f"/api/v1/batch/{job.id}"}


@blueprint.get("/api/v1/batch/<name>")
def job(name: str) -> Any:
    """How far a table is."""
    return state().jobs.get(name).to_json()


@blueprint.delete("/api/v1/batch/<name>")
def forget_job(name: str) -> Any:
    """Stop a job and forget its table."""
    state().jobs.remove(name)
    return "", 204


@blueprint.get("/api/v1/batch/<name>/result")
def job_result(name: str) -> Response:
    """The tagged table."""
    found = state().jobs.get(name)
    path = found.result_path()
    return send_file(
        path, as_attachment=True, download_name=f"tagged{path.suffix}", mimetype="application/octet-stream"
    )


@blueprint.get("/api/v1/model")
def model() -> Any:
    """What the model is, and what it was measured to do."""
    classifier = state().classifier
    config = classifier.bundle.config
    return {
        "name": config.name,
        "genres": list(config.genres),
        "inputs": list(config.inputs),
        "thresholds": {
            inputs: dict(zip(config.genres, decision.thresholds, strict=True))
            for inputs, decision in config.decisions.items()
        },
        "version": mmgcs.__version__,
        "card": classifier.bundle.card(),
    }


def _predict(films: list[Film]) -> list[Prediction]:
    here = state()
    predictions = here.batcher.predict(films, g.until)
    here.metrics.count(predictions)
    return predictions


def prediction_out(prediction: Prediction, explanation: Explanation | None = None) -> dict[str, Any]:
    """A prediction as `PredictionOut` describes it."""
    config = state().classifier.bundle.config
    decision = config.decisions["+".join(prediction.inputs)]
    return {
        "genres": list(prediction.genres),
        "top": list(prediction.top(3)),
        "probabilities": dict(prediction.probabilities),
        "thresholds": {genre: round(at, 6) for genre, at in zip(config.genres, decision.thresholds, strict=True)},
        "inputs": list(prediction.inputs),
        "confidence": prediction.confidence,
        "sure": prediction.sure,
        "abstained": not prediction.sure,
        "possible": list(prediction.possible),
        "undecided": list(prediction.undecided),
        "warnings": list(prediction.warnings),
        "explanation": explanation.to_json() if explanation is not None else None,
    }
