"""The API's description (OpenAPI 3.1), made from the models that check its requests."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

import mmgcs
from mmgcs.web import schemas
from mmgcs.web.settings import Settings

_MODELS = (
    schemas.PredictIn,
    schemas.BatchIn,
    schemas.PredictionOut,
    schemas.BatchOut,
    schemas.JobOut,
    schemas.ModelOut,
    schemas.LegacyOut,
    schemas.InferIn,
    schemas.InferOut,
    schemas.ModelMetadataOut,
    schemas.ErrorOut,
)
_ERRORS = {
    400: "The request is malformed, or lacks what it is about.",
    401: "The API key is missing or wrong.",
    404: "There is nothing of that name.",
    413: "The request or a part of it is too large.",
    415: "The content is of a type that is not read here.",
    422: "The request is well-formed and says what cannot be done.",
    429: "Too many requests; Retry-After says when to try again.",
    503: "The server is busy or shutting down; Retry-After says when to try again.",
}


TAGS = {
    "original": "The original application's addresses, with its contract",
    "v1": "Version 1",
    "v2": "The Open Inference Protocol",
    "operations": "For whoever runs the server",
}
"""The groups that addresses come in, and what each is."""


def description(settings: Settings) -> dict[str, Any]:
    """The description of a server with these settings."""
    _, definitions = models_json_schema(
        [(model, "validation" if model.__name__.endswith("In") else "serialization") for model in _MODELS],
        ref_template="#/components/schemas/{model}",
    )
    value: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "MMGCS",
            "version": mmgcs.__version__,
            "description": "Tells a film's genres from its plot, its poster, or both: how sure it is, and why.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": {**_paths(), **_open_inference()},
        "components": {"schemas": definitions["$defs"]},
    }
    for path, methods in value["paths"].items():
        for operation in methods.values():
            operation["tags"] = [_tag(path)]
    if settings.api_key:
        value["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path in value["paths"].values():
            for method in ("post", "delete"):
                if method in path:
                    path[method]["security"] = [{"key": []}]
    return value


def _paths() -> dict[str, Any]:
    text = {"type": "string"}
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    name = {"name": "id", "in": "path", "required": True, "schema": text, "description": "The job's id."}
    form = {
        "type": "object",
        "properties": {"plot": text, "title": text, "poster": file, "explain": {"type": "boolean"}, "genres": text},
    }
    plot = {
        "type": "object",
        "properties": {"plot": text, "text": text, "title": text},
        "anyOf": [{"required": ["plot"]}, {"required": ["text"]}],
    }
    return {
        "/predict": {
            "post": _operation(
                "Predict from a plot (the original's address)",
                LegacyOut="The three most probable genres.",
                body={
                    "application/json": plot,
                    "multipart/form-data": plot,
                    "application/x-www-form-urlencoded": plot,
                },
            )
        },
        "/predict_image": {
            "post": _operation(
                "Predict from a poster (the original's address)",
                LegacyOut="The three most probable genres.",
                body={
                    "multipart/form-data": {"type": "object", "properties": {"poster": file}, "required": ["poster"]}
                },
            )
        },
        "/api/v1/predict": {
            "post": _operation(
                "Predict one film from its plot, its poster, or both",
                PredictionOut="The prediction, explained where that was asked for.",
                body={"application/json": _ref("PredictIn"), "multipart/form-data": form},
            )
        },
        "/api/v1/batch": {
            "post": {
                **_operation(
                    "Predict many films; a table becomes a job",
                    BatchOut="The predictions, in the films' order.",
                    body={
                        "application/json": _ref("BatchIn"),
                        "multipart/form-data": {"type": "object", "properties": {"file": file}, "required": ["file"]},
                    },
                    more={"202": _answer("The job that tags the table.", "JobOut")},
                )
            }
        },
        "/api/v1/batch/{id}": {
            "get": _operation("How far a table is", parameters=[name], JobOut="The job."),
            "delete": {
                "summary": "Stop a job and forget its table",
                "parameters": [name],
                "responses": {"204": {"description": "It is gone."}, **_errors()},
            },
        },
        "/api/v1/batch/{id}/result": {
            "get": {
                "summary": "The tagged table",
                "parameters": [name],
                "responses": {
                    "200": {"description": "The table.", "content": {"application/octet-stream": {"schema": file}}},
                    **_errors(),
                },
            }
        },
        "/api/v1/model": {"get": _operation("The model and its card", ModelOut="The model.")},
        "/healthz": {"get": _plain("The process answers", "application/json")},
        "/readyz": {"get": {**_plain("Whether the server can predict", "application/json")}},
        "/metrics": {"get": _plain("Prometheus metrics", "text/plain")},
    }


def _tag(path: str) -> str:
    if path.startswith("/predict"):
        return "original"
    return next((name for name, start in (("v1", "/api/v1"), ("v2", "/v2")) if path.startswith(start)), "operations")


def _open_inference() -> dict[str, Any]:
    model = {"name": "name", "in": "path", "required": True, "schema": {"enum": ["mmgcs"]}, "description": "mmgcs."}
    version = {**model, "name": "version", "schema": {"enum": ["1"]}, "description": "1."}
    value: dict[str, Any] = {
        "/v2": {"get": _plain("The server", "application/json")},
        "/v2/health/live": {"get": _plain("The process answers", "application/json")},
        "/v2/health/ready": {"get": _plain("Whether requests can be predicted", "application/json")},
        "/v2/repository/index": {"post": {**_plain("The models: one", "application/json")}},
    }
    value["/v2/repository/index"]["post"]["responses"] |= _errors()
    for path, parameters in (
        ("/v2/models/{name}", [model]),
        ("/v2/models/{name}/versions/{version}", [model, version]),
    ):
        infer = _operation(
            "Predict films",
            parameters=parameters,
            InferOut="The outputs. Those that were asked for as binary data follow the JSON.",
            body={"application/json": _ref("InferIn")},
        )
        infer["responses"]["200"]["content"]["application/octet-stream"] = {"schema": {}}
        ready = _plain("Whether the model can predict", "application/json")
        value[path] = {
            "get": _operation("The model", parameters=parameters, ModelMetadataOut="Its inputs and outputs.")
        }
        value[f"{path}/ready"] = {
            "get": {**ready, "parameters": parameters, "responses": {**_errors(), **ready["responses"]}}
        }
        value[f"{path}/infer"] = {"post": infer}
    return value


def _operation(
    summary: str,
    *,
    body: dict[str, Any] | None = None,
    parameters: list[dict[str, Any]] | None = None,
    more: dict[str, Any] | None = None,
    **answer: str,
) -> dict[str, Any]:
    ((model, text),) = answer.items()
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": _answer(text, model), **(more or {}), **_errors()},
    }
    if parameters:
        operation["parameters"] = parameters
    if body:
        content = {kind: {"schema": schema} for kind, schema in body.items()}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _plain(summary: str, kind: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "responses": {
            "200": {"description": "Yes.", "content": {kind: {"schema": {}}}},
            "503": _answer(_ERRORS[503], "ErrorOut"),
        },
    }


def _errors() -> dict[str, Any]:
    return {str(status): _answer(text, "ErrorOut") for status, text in _ERRORS.items()}


def _answer(text: str, model: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": _ref(model)}}}


def _ref(model: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model}"}
