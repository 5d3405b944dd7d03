"""Describe the API as OpenAPI, and validate requests against that, both with spectree."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

from flask import Request, Response, abort, request
from pydantic import BaseModel, ValidationError
from spectree import Response as Responses
from spectree import SpecTree, Tag

from mmgcs.version import __version__
from mmgcs.web import schemas
from mmgcs.web.schemas import ErrorOut
from mmgcs.web.settings import Settings
from mmgcs.wording import refusals

View = TypeVar("View", bound=Callable[..., Any])

ORIGINAL = Tag(name="original", description="The original application's endpoints, with its contract")
V1 = Tag(name="v1", description="Version 1")
V2 = Tag(name="v2", description="The Open Inference Protocol")
OPERATIONS = Tag(name="operations", description="For operators")

FAILURES = (400, 401, 413, 415, 422, 429, 503)
"""Statuses of the errors that a prediction may end in."""

_ERRORS = {
    400: "The request is malformed.",
    401: "The API key is missing or wrong.",
    404: "Not found.",
    413: "The request, or a part of it, is too large.",
    415: "The content type is not supported.",
    422: "The request is well-formed but cannot be processed.",
    429: "Too many requests; see Retry-After.",
    503: "The server is busy or shutting down; see Retry-After.",
}
_BINARY = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer KEY"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "X-API-Key: KEY"},
}


def invalid_request(error: ValidationError, model: type[BaseModel]) -> str:
    """Return what is wrong with a request, in one line."""
    place, problem = refusals(error, model, "key")[0]
    return f"{place}: {problem}" if place else f"the body {problem}"


def _raise_if_invalid(
    _request: Request, response: Response | None, error: Exception | None, _instance: object, _adapter: object
) -> None:
    if isinstance(error, ValidationError) and response is not None:
        abort(response.status_code, invalid_request(error, getattr(schemas, error.title)))


spec = SpecTree(
    "flask",
    mode="strict",
    before=_raise_if_invalid,
    validation_error_model=ErrorOut,
    naming_strategy=lambda model: model.__name__,
    nested_naming_strategy=lambda _parent, name: name,
    title="MMGCS",
    version=__version__,
    description="Predicts a film's genres from its plot, its poster, or both, with a confidence and an explanation.",
)


def describe(
    tag: Tag, operation_id: str | None, model: type[BaseModel] | None, text: str, *errors: int, **more: Any
) -> Callable[[View], View]:
    """Describe a view, and validate its requests.

    Args:
        tag, operation_id: its group, and its id; None to make the id from the path.
        model, text: the model of a 200's body (None if there is none), and its description.
        errors: the statuses of its errors.
        more: further responses, such as HTTP_202, and further arguments of `SpecTree.validate`.
    """
    responses: dict[str, Any] = {name: more.pop(name) for name in list(more) if name.startswith("HTTP_")}
    if "HTTP_204" not in responses:
        responses["HTTP_200"] = (model, text)
    responses |= {f"HTTP_{status}": (ErrorOut, _ERRORS[status]) for status in errors}
    validate: Callable[[View], View] = spec.validate(
        resp=Responses(**responses), tags=[tag], operation_id=operation_id, **more
    )
    return validate


def description(settings: Settings) -> dict[str, Any]:
    """Return the OpenAPI description of the current application."""
    value: dict[str, Any] = copy.deepcopy(spec.spec)
    value["info"]["license"] = {"name": "MIT", "identifier": "MIT"}
    value["servers"] = [{"url": request.url_root.rstrip("/"), "description": "This server"}]
    models, paths = value["components"]["schemas"], value["paths"]
    for path, methods in paths.items():
        for method, operation in methods.items():
            operation["summary"] = operation["summary"].rstrip(".")
            if "{" in operation["operationId"]:  # an endpoint with two paths
                name = "Metadata" if path.endswith("}") else path.rpartition("/")[2].title()
                operation["operationId"] = f"oipModel{name}{'OfVersion' if '/versions/' in path else ''}"
            if not operation["description"]:
                del operation["description"]
            for part in (operation.get("requestBody", {}), operation["responses"].get("200", {})):
                for content in part.get("content", {}).values():
                    if examples := models[content["schema"]["$ref"].rpartition("/")[2]].get("examples"):
                        content["example"] = examples[0]
            if operation["responses"].get("422", {}).get("description") != _ERRORS[422]:
                operation["responses"].pop("422", None)  # which spectree adds to every endpoint
            if settings.api_key and method in ("post", "delete"):
                operation["security"] = [{name: []} for name in _SECURITY_SCHEMES]
    del value["security"]
    if settings.api_key:
        value["components"]["securitySchemes"] = _SECURITY_SCHEMES
    # Content that is not JSON, which spectree does not describe.
    paths["/api/v1/batch/{job_id}/result"]["get"]["responses"]["200"]["content"] = {"application/octet-stream": _BINARY}
    paths["/metrics"]["get"]["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    plot = paths["/predict"]["post"]["requestBody"]["content"]
    plot["application/x-www-form-urlencoded"] = plot["multipart/form-data"]
    for infer in (methods["post"] for path, methods in paths.items() if path.endswith("/infer")):
        infer["requestBody"]["content"]["application/octet-stream"] = _BINARY
        infer["responses"]["200"]["content"]["application/octet-stream"] = _BINARY
    return value
