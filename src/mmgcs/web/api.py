"""The original application's two endpoints, version 1 of the API, and the endpoints for operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Blueprint, Response, current_app, g, jsonify, request, send_file, url_for
from pydantic import ValidationError
from werkzeug.exceptions import BadRequest

import mmgcs
from mmgcs.film import Film, Prediction
from mmgcs.runtime import Explanation
from mmgcs.runtime import explain as explain_film
from mmgcs.web.errors import RequestError, UnprocessableError, UnsupportedError
from mmgcs.web.films import make_film
from mmgcs.web.jobs import Job
from mmgcs.web.openapi import answers, describe, description, invalid_request, spec, tags
from mmgcs.web.schemas import (
    BatchIn,
    BatchOut,
    JobOut,
    LegacyIn,
    LegacyOut,
    LegacyPosterForm,
    ModelOut,
    PredictForm,
    PredictIn,
    PredictionOut,
    TableForm,
)
from mmgcs.web.state import state

blueprint = Blueprint("api", __name__)

FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_FAILURES = (400, 401, 413, 415, 422, 429, 503)


@blueprint.before_request
def check_body() -> None:
    """Reject bodies that are neither JSON nor a form, and JSON that cannot be parsed."""
    if request.method != "POST":
        return
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedError("compressed requests are not supported; send it without Content-Encoding")
    empty = not request.content_length and not request.mimetype
    if request.mimetype in FORMS or (empty and request.path in ("/predict", "/predict_image")):
        return
    try:
        request.get_json()  # cached; raises 415 for another content type
    except BadRequest as error:
        problem = str(getattr(error.__cause__ or error, "description", "")).rpartition("object: ")[2]
        raise RequestError(f"the body is not valid JSON ({problem or 'it cannot be parsed'}); correct it") from None


# --- The original application's endpoints ---


@blueprint.post("/predict")
@spec.validate(
    json=LegacyIn,
    form=LegacyIn,
    resp=answers(LegacyOut, "The three most probable genres.", *_FAILURES),
    tags=tags("original"),
    operation_id="predictPlot",
    skip_validation=True,
)
def predict_plot() -> Any:
    """Predict from a plot: `{"plot": …}` or `{"text": …}`."""
    given: Any = request.form if request.mimetype in FORMS else request.get_json(silent=True)
    get = given.get if hasattr(given, "get") else dict[str, Any]().get
    plot, title = get("plot") or get("text"), get("title")
    if not isinstance(plot, str) or not plot.strip():
        raise RequestError('there is no plot; send {"plot": "…"}')
    try:
        PredictIn.model_validate({"plot": plot, "title": title if isinstance(title, str) else None})
    except ValidationError as error:
        raise UnprocessableError(invalid_request(error, PredictIn)) from None
    return _legacy(make_film(state().settings, plot=plot, title=title if isinstance(title, str) else None))


@blueprint.post("/predict_image")
@spec.validate(
    form=LegacyPosterForm,
    resp=answers(LegacyOut, "The three most probable genres.", *_FAILURES),
    tags=tags("original"),
    operation_id="predictPoster",
    skip_validation=True,
)
def predict_poster() -> Any:
    """Predict from a poster: a form with the file `poster`."""
    if request.mimetype and request.mimetype != FORMS[0]:
        raise UnsupportedError(f"unsupported content type; send a form ({FORMS[0]}) with a file named poster")
    file = request.files.get("poster")
    poster = file.read() if file is not None else b""
    if not poster:
        raise RequestError("there is no poster; send a form with a file named poster")
    return _legacy(make_film(state().settings, poster=poster))


def _legacy(film: Film) -> Any:
    (prediction,) = state().predict([film])
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


# --- Version 1 ---


@blueprint.post("/api/v1/predict")
@spec.validate(resp=answers(PredictionOut, "The prediction.", *_FAILURES), tags=tags("v1"), operation_id="predict")
def predict(json: PredictIn, form: PredictForm) -> Any:
    """Predict one film from its plot, its poster, or both."""
    asked = json or form
    return _explain(asked) if asked.explain else _predict(asked)


@blueprint.post("/api/v1/explain")
@spec.validate(
    resp=answers(PredictionOut, "The prediction with its explanation.", *_FAILURES),
    tags=tags("v1"),
    operation_id="explain",
)
def explain(json: PredictIn, form: PredictForm) -> Any:
    """Explain the prediction for one film. Slower than predict, and answered 503 sooner when the server is busy."""
    return _explain(json or form)


def _film(asked: PredictIn | PredictForm) -> Film:
    return make_film(state().settings, plot=asked.plot, title=asked.title, poster=asked.poster)


def _predict(asked: PredictIn | PredictForm) -> dict[str, Any]:
    (prediction,) = state().predict([_film(asked)])
    if prediction.error is not None:
        raise UnprocessableError(prediction.error)
    return prediction_json(prediction)


def _explain(asked: PredictIn | PredictForm) -> dict[str, Any]:
    shared = state()
    genres = asked.genres
    if isinstance(genres, str):
        genres = [name.strip() for name in genres.split(",") if name.strip()] or None
    known = {genre.casefold() for genre in shared.classifier.genres}
    if unknown := [genre for genre in genres or () if genre.casefold() not in known]:
        raise UnprocessableError(f"genres: this model has no genre {unknown[0]!r}")
    film = _film(asked)
    with shared.explaining.slot(g.deadline):
        explanation = explain_film(shared.classifier, film, genres)
    shared.metrics.count([explanation.prediction])
    return prediction_json(explanation.prediction, explanation)


@blueprint.post("/api/v1/batch")
@spec.validate(
    resp=answers(
        BatchOut, "The predictions.", *_FAILURES, HTTP_202=(JobOut, "The job that tags the table; see Location.")
    ),
    tags=tags("v1"),
    operation_id="predictBatch",
)
def batch(json: BatchIn, form: TableForm) -> Any:
    """Predict several films as JSON, or tag an uploaded table in the background."""
    shared = state()
    if json is None:
        file = request.files.get("file")
        if file is None or not file.filename:
            raise UnprocessableError("there is no table; send a form with a file named file")
        started = shared.jobs.start(file.stream, file.filename)
        return jsonify(_job_json(started)), 202, {"Location": url_for("api.job", job_id=started.id)}
    limit = shared.settings.max_batch
    if len(json.films) > limit:
        raise UnprocessableError(
            f"films: {len(json.films)} films, over the limit of {limit}; send a table or several batches"
        )
    films = []
    for index, given in enumerate(json.films):
        try:
            film = make_film(
                shared.settings, plot=given.plot, title=given.title, poster=given.poster, film_id=given.id or ""
            )
        except RequestError as error:
            film = Film(id=given.id or "", problem=f"film {index}: {error}")
        films.append(film)
    return {
        "predictions": [
            {
                "id": given.id,
                "error": prediction.error,
                "prediction": None if prediction.error is not None else prediction_json(prediction),
            }
            for given, prediction in zip(json.films, shared.predict(films), strict=True)
        ]
    }


_JOB_ID = {"job_id": "The job's id."}


@blueprint.get("/api/v1/batch/<job_id>")
@spec.validate(
    resp=answers(JobOut, "The job.", 404),
    tags=tags("v1"),
    operation_id="getJob",
    path_parameter_descriptions=_JOB_ID,
)
def job(job_id: str) -> Any:
    """Return the progress of a table being tagged."""
    return jsonify(_job_json(state().jobs.get(job_id))), 200, {"Cache-Control": "no-store"}


@blueprint.delete("/api/v1/batch/<job_id>")
@spec.validate(
    resp=answers(None, "", 401, 404, 429, 503, HTTP_204=(None, "The job was deleted.")),
    tags=tags("v1"),
    operation_id="deleteJob",
    path_parameter_descriptions=_JOB_ID,
)
def delete_job(job_id: str) -> Any:
    """Stop a job and delete its table."""
    state().jobs.remove(job_id)
    return "", 204


@blueprint.get("/api/v1/batch/<job_id>/result")
@describe(
    resp=answers(None, "The tagged table.", 400, 404, 422),
    tags=tags("v1"),
    operation_id="getTaggedTable",
    path_parameter_descriptions=_JOB_ID,
)
def job_result(job_id: str) -> Response:
    """Download a tagged table."""
    found = state().jobs.get(job_id)
    path = found.result_path()
    name = f"{Path(found.filename).stem}-genres{path.suffix}"
    response = send_file(path, as_attachment=True, download_name=name, mimetype="application/octet-stream")
    response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.get("/api/v1/model")
@spec.validate(resp=answers(ModelOut, "The model."), tags=tags("v1"), operation_id="getModel")
def model() -> Any:
    """Return the model and its card."""
    bundle = state().classifier.bundle
    config = bundle.config
    return {
        "name": config.name,
        "genres": list(config.genres),
        "inputs": list(config.inputs),
        "thresholds": {
            inputs: dict(zip(config.genres, decision.thresholds, strict=True))
            for inputs, decision in config.decisions.items()
        },
        "version": mmgcs.__version__,
        "card": bundle.card(),
    }


def prediction_json(prediction: Prediction, explanation: Explanation | None = None) -> dict[str, Any]:
    """Return a prediction as `PredictionOut` describes it."""
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


def _job_json(found: Job) -> dict[str, Any]:
    result = url_for("api.job_result", job_id=found.id) if found.state == "done" else None
    return {**found.to_json(), "result": result}


# --- For operators ---


@blueprint.get("/healthz")
@spec.validate(resp=answers(None, "The process answers."), tags=tags("operations"), operation_id="getHealth")
def health() -> Any:
    """Answer while the process lives."""
    return {"status": "ok"}


@blueprint.get("/readyz")
@spec.validate(
    resp=answers(None, "The next request can be predicted.", 503), tags=tags("operations"), operation_id="getReadiness"
)
def ready() -> Any:
    """Answer 200 only if the next request can be predicted."""
    shared = state()
    problem = "the server is shutting down" if shared.draining else shared.problem
    if problem is not None:
        return jsonify(error=problem), 503, {"Retry-After": "5"}
    return {"status": "ready"}


@blueprint.get("/metrics")
@spec.validate(resp=answers(None, "The metrics."), tags=tags("operations"), operation_id="getMetrics")
def metrics() -> Response:
    """Return metrics for Prometheus."""
    return state().metrics.page()


@blueprint.get("/openapi.json")
def openapi() -> Any:
    """Return the API's description, OpenAPI 3.1."""
    return current_app.json.response(description(state().settings))
