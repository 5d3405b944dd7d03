"""The API's OpenAPI description, and the validation of requests against it, both by spectree."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from flask import Request, Response, request
from pydantic import BaseModel, ValidationError
from spectree import Response as Responses
from spectree import SpecTree, Tag

import mmgcs
from mmgcs.web import schemas
from mmgcs.web.errors import UnprocessableError
from mmgcs.web.schemas import ErrorOut
from mmgcs.web.settings import Settings
from mmgcs.wording import refusal

View = TypeVar("View", bound=Callable[..., Any])

TAGS = {
    "original": "The original application's endpoints, with its contract",
    "v1": "Version 1",
    "v2": "The Open Inference Protocol",
    "operations": "For operators",
}
"""The groups of endpoints."""

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
    place, problem = refusal(error, model, "key")
    return f"{place}: {problem}" if place else f"the body {problem}"


def _raise_if_invalid(
    _request: Request, _response: Response | None, error: Exception | None, _instance: object, _adapter: object
) -> None:
    if isinstance(error, ValidationError):
        raise UnprocessableError(invalid_request(error, getattr(schemas, error.title)))


spec = SpecTree(
    "flask",
    mode="strict",
    before=_raise_if_invalid,
    validation_error_model=ErrorOut,
    naming_strategy=lambda model: model.__name__,
    nested_naming_strategy=lambda _parent, name: name,
    title="MMGCS",
    version=mmgcs.__version__,
    description="Predicts a film's genres from its plot, its poster, or both, with a confidence and an explanation.",
)


def tags(name: str) -> list[Tag]:
    """Return the tags of an endpoint in the group of this name."""
    return [Tag(name=name, description=TAGS[name])]


def describe(**metadata: Any) -> Callable[[View], View]:
    """Describe a view without running it through spectree, which would read a file that is sent into memory."""

    def decorate(view: View) -> View:
        @wraps(spec.validate(**metadata)(view))  # spectree finds the description in __wrapped__
        def run(*args: Any, **kwargs: Any) -> Any:
            return view(*args, **kwargs)

        return cast(View, run)

    return decorate


def answers(model: type[BaseModel] | None, text: str, *errors: int, **others: Any) -> Responses:
    """Return the responses of an endpoint.

    Args:
        model: what a 200 holds; None if it is not described.
        text: the description of that.
        errors: the statuses that an error may have.
        others: further responses, such as HTTP_202.
    """
    failures = {f"HTTP_{status}": (ErrorOut, _ERRORS[status]) for status in errors}
    success = {} if "HTTP_204" in others else {"HTTP_200": (model, text)}
    return Responses(**success, **others, **failures)


def description(settings: Settings) -> dict[str, Any]:
    """Return the OpenAPI description of the current application."""
    value: dict[str, Any] = copy.deepcopy(spec.spec)
    value["info"]["license"] = {"name": "MIT", "identifier": "MIT"}
    value["servers"] = [{"url": request.url_root.rstrip("/"), "description": "This server"}]
    paths: dict[str, Any] = value["paths"]
    for path, methods in paths.items():
        for method, operation in methods.items():
            operation["summary"] = operation["summary"].rstrip(".")
            if "{" in operation["operationId"]:  # an endpoint with two paths
                name = "Metadata" if path.endswith("}") else path.rpartition("/")[2].title()
                operation["operationId"] = f"oipModel{name}{'OfVersion' if '/versions/' in path else ''}"
            if not operation["description"]:
                del operation["description"]
            for kind in operation.get("requestBody", {}).get("content", {}).values():
                _describe_example(kind, value["components"]["schemas"])
            if settings.api_key and method in ("post", "delete"):
                operation["security"] = [{name: []} for name in _SECURITY_SCHEMES]
    if settings.api_key:
        value["components"]["securitySchemes"] = _SECURITY_SCHEMES
    del value["security"]
    _describe_other_formats(paths)
    return value


def _describe_example(content: dict[str, Any], models: dict[str, Any]) -> None:
    name = content["schema"]["$ref"].rpartition("/")[2]
    if examples := models[name].get("examples"):
        content["example"] = examples[0]


def _describe_other_formats(paths: dict[str, Any]) -> None:
    """Describe what is not JSON, which spectree does not know of."""
    paths["/api/v1/batch/{job_id}/result"]["get"]["responses"]["200"]["content"] = {"application/octet-stream": _BINARY}
    paths["/metrics"]["get"]["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    plot = paths["/predict"]["post"]["requestBody"]["content"]
    plot["application/x-www-form-urlencoded"] = plot["multipart/form-data"]
    for path, methods in paths.items():
        if path.endswith("/infer"):
            methods["post"]["requestBody"]["content"]["application/octet-stream"] = _BINARY
            methods["post"]["responses"]["200"]["content"]["application/octet-stream"] = _BINARY
