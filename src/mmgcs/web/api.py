"""The original application's two endpoints, version 1 of the API, and the endpoints for operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request, url_for
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import BadRequest, HTTPException, UnprocessableEntity, UnsupportedMediaType
from werkzeug.utils import send_file

from mmgcs.errors import UsageError
from mmgcs.film import Film, Prediction
from mmgcs.runtime import Explanation
from mmgcs.version import __version__
from mmgcs.web import schemas
from mmgcs.web.openapi import FAILURES, OPERATIONS, ORIGINAL, V1, describe, description
from mmgcs.web.state import state

blueprint = Blueprint("api", __name__)

_STARTED = (schemas.JobOut, "The job; see Location.")
_DELETED = (None, "The job was deleted.")
_JOB_ID = {"job_id": "The job's id."}


@blueprint.before_request
def check_body() -> None:
    """Reject bodies that are neither JSON nor a form, and JSON that cannot be parsed."""
    if request.method != "POST":
        return
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("compressed requests are not supported; send it without Content-Encoding")
    forms = ("multipart/form-data", "application/x-www-form-urlencoded")
    empty = not request.content_length and not request.mimetype
    if request.mimetype in forms or (empty and request.path in ("/predict", "/predict_image")):
        return
    if not request.is_json:
        raise UnsupportedMediaType("send JSON with Content-Type: application/json, or a form")
    try:
        request.get_json()  # cached
    except RecursionError:
        raise BadRequest("the JSON is nested too deeply") from None
    except BadRequest as error:
        problem = str(error.__cause__ or error).rpartition("object: ")[2]
        raise BadRequest(f"the body is not valid JSON ({problem}); correct it") from None


# --- The original application's endpoints ---


@blueprint.post("/predict")
@describe(ORIGINAL, "predictPlot", schemas.LegacyOut, "The top three genres.", *FAILURES, validation_error_status=400)
def predict_plot(json: schemas.LegacyIn, form: schemas.LegacyIn) -> Any:
    """Predict from a plot, sent as plot or as text."""
    given = json or form
    return _predict_like_the_original(state().make_film(plot=given.plot or given.text, title=given.title))


@blueprint.post("/predict_image")
@describe(ORIGINAL, "predictPoster", schemas.LegacyOut, "The top three genres.", *FAILURES, validation_error_status=400)
def predict_poster(form: schemas.LegacyPosterForm) -> Any:
    """Predict from a poster, sent in a form as the file poster."""
    if form is None or form.poster is None:
        raise BadRequest("there is no poster; send a form with a file named poster")
    return _predict_like_the_original(state().make_film(poster=form.poster))


def _predict_like_the_original(film: Film) -> Any:
    (prediction,) = state().predict([film])
    if prediction.error is not None:
        raise BadRequest(prediction.error)
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
@describe(V1, "predict", schemas.PredictionOut, "The prediction.", *FAILURES)
def predict(json: schemas.PredictIn, form: schemas.PredictForm) -> Any:
    """Predict one film from its plot, its poster, or both."""
    given = json or form
    if given.explain:
        return _explain(given)
    (prediction,) = state().predict([state().make_film(plot=given.plot, title=given.title, poster=given.poster)])
    if prediction.error is not None:
        raise UnprocessableEntity(prediction.error)
    return prediction_json(prediction)


@blueprint.post("/api/v1/explain")
@describe(V1, "explain", schemas.PredictionOut, "The prediction with its explanation.", *FAILURES)
def explain(json: schemas.PredictIn, form: schemas.PredictForm) -> Any:
    """Explain the prediction for one film. Slower than predict; a busy server answers 503 sooner."""
    return _explain(json or form)


def _explain(given: schemas.PredictIn | schemas.PredictForm) -> dict[str, Any]:
    film = state().make_film(plot=given.plot, title=given.title, poster=given.poster)
    try:
        explanation = state().explain(film, given.genres or None)
    except UsageError as error:  # an unknown genre, or nothing to predict from
        raise UnprocessableEntity(str(error)) from None
    return prediction_json(explanation.prediction, explanation)


@blueprint.post("/api/v1/batch")
@describe(V1, "predictBatch", schemas.BatchOut, "The predictions.", *FAILURES, HTTP_202=_STARTED)
def batch(json: schemas.BatchIn, form: schemas.TableForm) -> Any:
    """Predict several films as JSON, or tag an uploaded table in the background."""
    if json is None:
        file = request.files.get("file")
        if file is None or not file.filename:
            raise UnprocessableEntity("there is no table; send a form with a file named file")
        shown = state().jobs.start(file, form.columns).shown
        return shown.model_dump(), 202, {"Location": url_for("api.job", job_id=shown.id)}
    count, limit = len(json.films), state().settings.max_batch
    if count > limit:
        raise UnprocessableEntity(f"films: {count} films, over the limit of {limit}; send a table or several batches")
    films = []
    for index, given in enumerate(json.films):
        try:
            film = state().make_film(plot=given.plot, title=given.title, poster=given.poster)
        except HTTPException as error:
            film = Film(problem=f"film {index}: {error.description}")
        films.append(film)
    return {
        "predictions": [
            {
                "id": given.id,
                "error": prediction.error,
                "prediction": None if prediction.error is not None else prediction_json(prediction),
            }
            for given, prediction in zip(json.films, state().predict(films), strict=True)
        ]
    }


@blueprint.get("/api/v1/batch/<job_id>")
@describe(V1, "getJob", schemas.JobOut, "The job.", 404, path_parameter_descriptions=_JOB_ID)
def job(job_id: str) -> Any:
    """Return the progress of a table being tagged."""
    shown = state().jobs.get(job_id).shown
    result = url_for("api.job_result", job_id=job_id) if shown.state == "done" else None
    return {**shown.model_dump(), "result": result}, 200, {"Cache-Control": "no-store"}


@blueprint.delete("/api/v1/batch/<job_id>")
@describe(V1, "deleteJob", None, "", 401, 404, 429, 503, HTTP_204=_DELETED, path_parameter_descriptions=_JOB_ID)
def delete_job(job_id: str) -> Any:
    """Stop a job and delete its table."""
    state().jobs.remove(job_id)
    return "", 204


@blueprint.get("/api/v1/batch/<job_id>/result")
@describe(V1, "getTaggedTable", None, "The tagged table.", 400, 404, 422, path_parameter_descriptions=_JOB_ID)
def job_result(job_id: str) -> Any:
    """Download a tagged table."""
    found = state().jobs.get(job_id)
    path = found.result_path()
    # werkzeug's send_file: spectree would read the file of a Flask response into memory.
    return send_file(
        path,
        request.environ,
        mimetype="application/octet-stream",
        as_attachment=True,
        download_name=f"{Path(found.shown.filename).stem}-genres{path.suffix}",
        conditional=False,
    ), {"Cache-Control": "no-store"}


@blueprint.get("/api/v1/model")
@describe(V1, "getModel", schemas.ModelOut, "The model.")
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
        "version": __version__,
        "card": bundle.card(),
    }


def prediction_json(prediction: Prediction, explanation: Explanation | None = None) -> dict[str, Any]:
    """Return a prediction as `PredictionOut` describes it."""
    value = prediction.to_dict()
    del value["error"]
    config = state().classifier.bundle.config
    thresholds = config.decisions["+".join(prediction.inputs)].thresholds
    return {
        "genres": value.pop("genres"),
        "top": list(prediction.top(3)),
        **value,
        "thresholds": {genre: round(at, 6) for genre, at in zip(config.genres, thresholds, strict=True)},
        "abstained": not prediction.sure,
        "explanation": explanation.to_json() if explanation is not None else None,
    }


# --- For operators ---


@blueprint.get("/healthz")
@describe(OPERATIONS, "getHealth", None, "The process answers.")
def health() -> Any:
    """Answer 200 while the process is alive."""
    return {"status": "ok"}


@blueprint.get("/readyz")
@describe(OPERATIONS, "getReadiness", None, "The next request can be predicted.", 503)
def ready() -> Any:
    """Answer 200 only if the next request can be predicted."""
    if state().draining:
        return jsonify(error="the server is shutting down"), 503, {"Retry-After": "5"}
    return {"status": "ready"}


@blueprint.get("/metrics")
@describe(OPERATIONS, "getMetrics", None, "The metrics.")
def metrics() -> Response:
    """Return metrics for Prometheus."""
    return Response(generate_latest(state().metrics.registry), content_type=CONTENT_TYPE_LATEST)


@blueprint.get("/openapi.json")
def openapi() -> Any:
    """Return the API's description, OpenAPI 3.1."""
    return current_app.json.response(description(state().settings))
