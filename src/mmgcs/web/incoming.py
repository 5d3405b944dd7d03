"""Reading requests: bodies become films, within the limits, and whatever is wrong is named."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, TypeVar

from flask import Request, current_app
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from mmgcs.errors import InputError
from mmgcs.film import Film
from mmgcs.preprocess.decode import read_poster_size
from mmgcs.web.errors import RequestError, TooLargeError, UnprocessableError, UnsupportedError
from mmgcs.web.schemas import FilmIn
from mmgcs.web.settings import Settings
from mmgcs.wording import refusal

Model = TypeVar("Model", bound=BaseModel)

FORM = "multipart/form-data"
JSON = "application/json"


def settings() -> Settings:
    """The settings of the application that answers."""
    found: Settings = current_app.extensions["mmgcs"].settings
    return found


def body(request: Request) -> bytes:
    """The request's body. Raises TooLargeError where it is over the limit."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedError("compressed requests are not read; send it without Content-Encoding")
    try:
        return request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise TooLargeError(f"the request is larger than {settings().max_body:,} bytes; send less") from None


def json_body(request: Request) -> Any:
    """The request's body as JSON.

    Raises:
        UnsupportedError: it does not say that it is JSON.
        RequestError: it is not JSON.
    """
    if request.mimetype != JSON and not request.mimetype.endswith("+json"):
        raise UnsupportedError(f"the content type is not {JSON}; send JSON with that Content-Type")
    return parse_json(body(request))


def parse_json(content: bytes) -> Any:
    """JSON without NaN and of reasonable depth. Raises RequestError for anything else."""
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError:
        raise RequestError("the JSON is nested too deeply; send a flat object") from None
    except ValueError as error:
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise RequestError(f"the body is not JSON{where}; check it") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def checked(model: type[Model], value: Any, error_type: type[RequestError] = UnprocessableError) -> Model:
    """The value as the model describes it. Raises an error of that type, naming the first field that is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        where, what = refusal(error, model, "key")
        raise error_type(f"{where}: {what}" if where else f"the body {what}") from None


def form_fields(request: Request) -> dict[str, Any]:
    """The text fields of a multipart request and the poster's bytes, by name; files of other names are an error."""
    if request.mimetype != FORM:
        raise UnsupportedError(f"the content type is not {FORM}; send a form, or JSON")
    try:
        form, files = request.form, request.files
    except RequestEntityTooLarge:
        raise TooLargeError("the form is too large or has too many parts; send a plot and one poster") from None
    fields: dict[str, Any] = form.to_dict()
    for name, file in files.items():
        fields[name] = file.read()
    return fields


def film_of(value: FilmIn, *, identity: str = "", poster: bytes | None = None) -> Film:
    """The film of a request, checked against the limits.

    Raises:
        TooLargeError: the poster is over a limit.
        UnprocessableError: the plot is too long, or the poster is not base64.
    """
    limits = settings()
    if value.plot is not None and len(value.plot) > limits.max_plot:
        raise UnprocessableError(f"the plot has {len(value.plot):,} characters, over the limit of {limits.max_plot:,}")
    if value.poster is not None:
        text = value.poster.partition(",")[2] if value.poster.startswith("data:") else value.poster
        try:
            poster = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise UnprocessableError("poster: not base64; send the bytes of a picture file in base64") from None
    if poster is not None:
        check_poster(poster)
    return Film(id=identity, title=value.title, plot=value.plot, poster=poster)


def check_poster(poster: bytes) -> None:
    """Refuse a poster that is over a limit, from its header alone. What is no picture is left to the classifier."""
    limits = settings()
    if len(poster) > limits.max_poster:
        raise TooLargeError(f"the poster has {len(poster):,} bytes, over the limit of {limits.max_poster:,}; shrink it")
    try:
        width, height = read_poster_size(poster)
    except InputError as error:
        if "over the limit" in str(error):
            raise TooLargeError(str(error)) from None
        return
    if width * height > limits.max_pixels:
        raise TooLargeError(
            f"the poster is {width} × {height} pixels, over the limit of {limits.max_pixels:,}; shrink it"
        )
