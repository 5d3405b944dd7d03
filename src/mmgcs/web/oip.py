"""The Open Inference Protocol v2 over HTTP, with the binary tensor extension that stock clients use.

Inputs are `plot`, `title` and `poster`, BYTES of shape [films]; an empty value is a missing one, and an input may be
left out. In JSON a poster is base64. Outputs are `probabilities` FP32 [films, genres], `genres` BYTES [films] joined
by "|", `confidence` FP32 [films] and `sure` BOOL [films].
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from flask import Blueprint, Response, g, jsonify, request
from numpy.typing import NDArray

import mmgcs
from mmgcs.film import Film, Prediction
from mmgcs.web.api import state
from mmgcs.web.errors import NotFoundError, RequestError, UnprocessableError
from mmgcs.web.incoming import body, checked, film_of, parse_json, settings
from mmgcs.web.schemas import FilmIn, InferIn, TensorIn

blueprint = Blueprint("oip", __name__, url_prefix="/v2")

NAME = "mmgcs"
VERSION = "1"
INPUTS = ("plot", "title", "poster")
_LENGTH = "Inference-Header-Content-Length"


@blueprint.get("")
def server() -> Any:
    """The server's metadata."""
    return {"name": NAME, "version": mmgcs.__version__, "extensions": ["binary_tensor_data", "model_repository"]}


@blueprint.get("/health/live")
def live() -> Any:
    """The process answers."""
    return {"live": True}


@blueprint.get("/health/ready")
def ready() -> Any:
    """Whether requests can be predicted."""
    here = state()
    if here.draining or here.problem is not None:
        return jsonify(error="not ready"), 503, {"Retry-After": "5"}
    return {"ready": True}


@blueprint.post("/repository/index")
def index() -> Any:
    """The models: one."""
    return jsonify([{"name": NAME, "version": VERSION, "state": "READY", "reason": ""}])


@blueprint.get("/models/<name>")
@blueprint.get("/models/<name>/versions/<version>")
def metadata(name: str, version: str = VERSION) -> Any:
    """The model's metadata."""
    _check_name(name, version)
    genres = len(state().classifier.genres)
    return {
        "name": NAME,
        "versions": [VERSION],
        "platform": "onnxruntime",
        "inputs": [{"name": item, "datatype": "BYTES", "shape": [-1]} for item in INPUTS],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, genres]},
            {"name": "genres", "datatype": "BYTES", "shape": [-1]},
            {"name": "confidence", "datatype": "FP32", "shape": [-1]},
            {"name": "sure", "datatype": "BOOL", "shape": [-1]},
        ],
        "parameters": {"genres": "|".join(state().classifier.genres)},
    }


@blueprint.get("/models/<name>/ready")
@blueprint.get("/models/<name>/versions/<version>/ready")
def model_ready(name: str, version: str = VERSION) -> Any:
    """Whether the model can predict."""
    _check_name(name, version)
    return ready()


@blueprint.post("/models/<name>/infer")
@blueprint.post("/models/<name>/versions/<version>/infer")
def infer(name: str, version: str = VERSION) -> Any:
    """Predict films."""
    _check_name(name, version)
    asked, binary = _split(body(request))
    films = _films(asked, binary)
    here = state()
    predictions = here.batcher.predict(films, g.until)
    here.metrics.count(predictions)
    for row, prediction in enumerate(predictions):
        if prediction.error is not None:
            raise UnprocessableError(f"film {row}: {prediction.error}")
    return _answer(asked, predictions)


def _check_name(name: str, version: str) -> None:
    if name != NAME or version != VERSION:
        raise NotFoundError(f"there is no such model; this server has {NAME}, version {VERSION}")


def _split(content: bytes) -> tuple[InferIn, bytes]:
    """The request's JSON, and the binary tensors that follow it."""
    length = request.headers.get(_LENGTH)
    if length is not None:
        if not length.isascii() or not length.isdigit() or int(length[:12]) > len(content):
            raise RequestError(f"{_LENGTH} is not the length of the JSON; correct it")
        header, binary = content[: int(length[:12])], content[int(length[:12]) :]
    else:
        header, binary = content, b""
    return checked(InferIn, parse_json(header), RequestError), binary


def _films(asked: InferIn, binary: bytes) -> list[Film]:
    columns: dict[str, list[bytes] | list[str | None]] = {}
    for tensor in asked.inputs:
        if tensor.name in columns:
            raise RequestError(f"inputs: {tensor.name} comes twice")
        if tensor.shape[1:] not in ([], [1]):
            raise RequestError(f"inputs: {tensor.name} must be of shape [films] or [films, 1]")
        if tensor.shape[0] > settings().max_batch:
            raise UnprocessableError(
                f"{tensor.shape[0]} films, over the limit of {settings().max_batch}; send several requests"
            )
        values, binary = _values(tensor, binary)
        if len(values) != tensor.shape[0]:
            raise RequestError(f"inputs: {tensor.name} holds {len(values)} values, its shape says {tensor.shape[0]}")
        columns[tensor.name] = values
    if len({len(values) for values in columns.values()}) != 1:
        raise RequestError("inputs: all must hold as many films")
    count = len(next(iter(columns.values())))
    return [_film({name: values[row] for name, values in columns.items()}) for row in range(count)]


def _values(tensor: TensorIn, binary: bytes) -> tuple[list[bytes] | list[str | None], bytes]:
    """A tensor's values, and the binary data of those after it."""
    size = tensor.parameters.get("binary_data_size")
    if size is not None:
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(binary):
            raise RequestError(f"inputs: {tensor.name} has a binary_data_size that the body does not hold")
        return _unpack(binary[:size]), binary[size:]
    if tensor.data is None:
        raise RequestError(f"inputs: {tensor.name} has no data")
    return [value[0] if isinstance(value, list) else value for value in tensor.data], binary


def _film(values: dict[str, bytes | str | None]) -> Film:
    texts: dict[str, str | None] = {}
    for name in ("plot", "title"):
        value = values.get(name)
        try:
            texts[name] = (value.decode("utf-8") if isinstance(value, bytes) else value) or None
        except UnicodeDecodeError:
            raise RequestError(f"inputs: {name} is not UTF-8") from None
    poster = values.get("poster") or None
    picture = poster if isinstance(poster, bytes) else None
    given = checked(FilmIn, {**texts, "poster": poster if isinstance(poster, str) else None})
    return film_of(given, poster=picture)


def _unpack(content: bytes) -> list[bytes]:
    """The elements of a binary BYTES tensor: each has its length before it, 4 bytes, little end first."""
    values, at = [], 0
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "little")
        if at + 4 + length > len(content):
            raise RequestError("inputs: a binary tensor ends within an element")
        values.append(content[at + 4 : at + 4 + length])
        at += 4 + length
    return values


def _answer(asked: InferIn, predictions: Sequence[Prediction]) -> Response:
    arrays: dict[str, tuple[str, NDArray[Any]]] = {
        "probabilities": (
            "FP32",
            np.array([list(prediction.probabilities.values()) for prediction in predictions], dtype=np.float32),
        ),
        "genres": ("BYTES", np.array(["|".join(prediction.genres) for prediction in predictions], dtype=object)),
        "confidence": ("FP32", np.array([prediction.confidence for prediction in predictions], dtype=np.float32)),
        "sure": ("BOOL", np.array([prediction.sure for prediction in predictions])),
    }
    all_binary = asked.parameters.get("binary_data_output", False)
    wanted: dict[str, Any] = {item.name: item.parameters.get("binary_data", all_binary) for item in asked.outputs}
    outputs, tail = [], b""
    for name, as_binary in (wanted or dict.fromkeys(arrays, all_binary)).items():
        kind, array = arrays[name]
        output: dict[str, Any] = {"name": name, "datatype": kind, "shape": list(array.shape)}
        if as_binary:
            packed = _pack(kind, array)
            output["parameters"] = {"binary_data_size": len(packed)}
            tail += packed
        else:
            output["data"] = array.ravel().tolist()
        outputs.append(output)
    value = {"model_name": NAME, "model_version": VERSION, "outputs": outputs}
    if asked.id is not None:
        value["id"] = asked.id
    if not tail:
        return jsonify(value)
    header = json.dumps(value).encode()
    return Response(header + tail, content_type="application/octet-stream", headers={_LENGTH: str(len(header))})


def _pack(kind: str, array: NDArray[Any]) -> bytes:
    if kind == "BYTES":
        texts = [str(value).encode() for value in array.ravel()]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return array.astype("<f4" if kind == "FP32" else np.bool_).tobytes()
