"""The Open Inference Protocol v2 over HTTP, with the binary tensor extension that tritonclient uses.

Inputs are `plot`, `title` and `poster`, BYTES of shape [films]; an empty value means that it is missing, and an input
may be omitted. In JSON a poster is base64. Outputs are `probabilities` FP32 [films, genres], `genres` BYTES [films]
joined by "|", `confidence` FP32 [films] and `sure` BOOL [films].
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from flask import Blueprint, Response, current_app, jsonify, request
from numpy.typing import NDArray
from pydantic import ValidationError

import mmgcs
from mmgcs.film import Film, Prediction
from mmgcs.web.errors import NotFoundError, RequestError, TooLargeError, UnprocessableError, UnsupportedError
from mmgcs.web.films import make_film
from mmgcs.web.openapi import answers, invalid_request, spec, tags
from mmgcs.web.schemas import FilmIn, InferIn, InferOut, ModelMetadataOut, TensorIn
from mmgcs.web.state import state

blueprint = Blueprint("oip", __name__, url_prefix="/v2")

ALIAS = "mmgcs"
"""A name that every model has, besides its own."""
VERSION = "1"
INPUTS = ("plot", "title", "poster")
OUTPUTS = {"probabilities": "FP32", "genres": "BYTES", "confidence": "FP32", "sure": "BOOL"}

_LENGTH = "Inference-Header-Content-Length"
_PATH = {"name": 'The model\'s name, as /api/v1/model tells it, or "mmgcs".', "version": "The version: 1."}
_FAILURES = (400, 401, 404, 413, 415, 422, 429, 503)


@blueprint.get("")
@spec.validate(resp=answers(None, "The server."), tags=tags("v2"), operation_id="oipServer")
def server() -> Any:
    """Return the server's metadata."""
    return {"name": "mmgcs", "version": mmgcs.__version__, "extensions": ["binary_tensor_data", "model_repository"]}


@blueprint.get("/health/live")
@spec.validate(resp=answers(None, "The process answers."), tags=tags("v2"), operation_id="oipLive")
def live() -> Any:
    """Answer while the process lives."""
    return {"live": True}


@blueprint.get("/health/ready")
@spec.validate(resp=answers(None, "Requests can be predicted.", 503), tags=tags("v2"), operation_id="oipReady")
def ready() -> Any:
    """Answer 200 only if requests can be predicted."""
    shared = state()
    if shared.draining or shared.problem is not None:
        return jsonify(error="not ready"), 503, {"Retry-After": "5"}
    return {"ready": True}


@blueprint.post("/repository/index")
@spec.validate(
    resp=answers(None, "The models.", 401, 429, 503), tags=tags("v2"), operation_id="oipIndex", skip_validation=True
)
def index() -> Any:
    """List the models: there is one."""
    return jsonify([{"name": _name(), "version": VERSION, "state": "READY", "reason": ""}])


@blueprint.get("/models/<name>")
@blueprint.get("/models/<name>/versions/<version>")
@spec.validate(
    resp=answers(ModelMetadataOut, "Its inputs and outputs.", 404),
    tags=tags("v2"),
    path_parameter_descriptions=_PATH,
)
def metadata(name: str, version: str = VERSION) -> Any:
    """Return the model's inputs and outputs."""
    _check_name(name, version)
    return {
        "name": name,
        "versions": [VERSION],
        "platform": "onnxruntime",
        "inputs": [{"name": item, "datatype": "BYTES", "shape": [-1]} for item in INPUTS],
        "outputs": [{"name": item, "datatype": kind, "shape": _shape(item)} for item, kind in OUTPUTS.items()],
        "parameters": {"genres": "|".join(state().classifier.genres)},
    }


@blueprint.get("/models/<name>/config")
@blueprint.get("/models/<name>/versions/<version>/config")
@spec.validate(resp=answers(None, "Its configuration.", 404), tags=tags("v2"), path_parameter_descriptions=_PATH)
def config(name: str, version: str = VERSION) -> Any:
    """Return the model's configuration, as tritonclient's get_model_config expects it."""
    _check_name(name, version)
    kinds = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32", "BOOL": "TYPE_BOOL"}
    return {
        "name": name,
        "platform": "onnxruntime",
        "max_batch_size": 0,  # the films are a dimension of every tensor
        "input": [{"name": item, "data_type": "TYPE_STRING", "dims": [-1], "optional": True} for item in INPUTS],
        "output": [{"name": item, "data_type": kinds[kind], "dims": _shape(item)} for item, kind in OUTPUTS.items()],
    }


@blueprint.get("/models/<name>/ready")
@blueprint.get("/models/<name>/versions/<version>/ready")
@spec.validate(
    resp=answers(None, "The model can predict.", 404, 503), tags=tags("v2"), path_parameter_descriptions=_PATH
)
def model_ready(name: str, version: str = VERSION) -> Any:
    """Answer 200 only if the model can predict."""
    _check_name(name, version)
    return ready()


@blueprint.post("/models/<name>/infer")
@blueprint.post("/models/<name>/versions/<version>/infer")
@spec.validate(
    json=InferIn,
    resp=answers(InferOut, "The outputs. Those requested as binary data follow the JSON.", *_FAILURES),
    tags=tags("v2"),
    path_parameter_descriptions=_PATH,
    skip_validation=True,
)
def infer(name: str, version: str = VERSION) -> Any:
    """Predict films."""
    _check_name(name, version)
    asked, binary = _split(_body())
    predictions = state().predict(_films(asked, binary))
    for row, prediction in enumerate(predictions):
        if prediction.error is not None:
            raise UnprocessableError(f"film {row}: {prediction.error}")
    return _answer(name, asked, predictions)


def _name() -> str:
    return state().classifier.bundle.config.name


def _check_name(name: str, version: str) -> None:
    if name not in (_name(), ALIAS) or version != VERSION:
        raise NotFoundError(f"there is no such model; this server has {_name()}, version {VERSION}")


def _shape(output: str) -> list[int]:
    return [-1, len(state().classifier.genres)] if output == "probabilities" else [-1]


def _body() -> bytes:
    """Return the request's body, decompressed."""
    content = request.get_data(cache=False)
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding == "identity":
        return content
    if encoding not in ("gzip", "deflate"):
        raise UnsupportedError("unsupported Content-Encoding; use gzip, deflate or none")
    limit = state().settings.max_body
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)  # finds out which of the two it is
    try:
        content = decompressor.decompress(content, limit)
    except zlib.error:
        raise RequestError(f"the body is not {encoding}; check Content-Encoding") from None
    if decompressor.unconsumed_tail:
        raise TooLargeError(f"the request has over {limit:,} bytes when decompressed; send less")
    return content


def _split(content: bytes) -> tuple[InferIn, bytes]:
    """Return the request's JSON, and the binary tensors that follow it."""
    length = request.headers.get(_LENGTH)
    header, binary = content, b""
    if length is not None:
        if not length.isascii() or not length.isdigit() or int(length[:12]) > len(content):
            raise RequestError(f"{_LENGTH} is not the length of the JSON; correct it")
        header, binary = content[: int(length[:12])], content[int(length[:12]) :]
    try:
        return InferIn.model_validate(current_app.json.loads(header.decode("utf-8"))), binary
    except ValidationError as error:
        raise RequestError(invalid_request(error, InferIn)) from None
    except ValueError as error:
        raise RequestError(f"the body is not valid JSON ({str(error)[:100]}); correct it") from None


def _films(asked: InferIn, binary: bytes) -> list[Film]:
    limit = state().settings.max_batch
    columns: dict[str, list[bytes] | list[str | None]] = {}
    for tensor in asked.inputs:
        if tensor.name in columns:
            raise RequestError(f"inputs: {tensor.name} occurs twice")
        if tensor.shape[1:] not in ([], [1]):
            raise RequestError(f"inputs: {tensor.name} must have the shape [films] or [films, 1]")
        if tensor.shape[0] > limit:
            raise UnprocessableError(f"{tensor.shape[0]} films, over the limit of {limit}; send several requests")
        values, binary = _values(tensor, binary)
        if len(values) != tensor.shape[0]:
            raise RequestError(f"inputs: {tensor.name} has {len(values)} values, but the shape {tensor.shape}")
        columns[tensor.name] = values
    if len({len(values) for values in columns.values()}) != 1:
        raise RequestError("inputs: all must have the same number of films")
    count = len(next(iter(columns.values())))
    return [_film({name: values[row] for name, values in columns.items()}) for row in range(count)]


def _values(tensor: TensorIn, binary: bytes) -> tuple[list[bytes] | list[str | None], bytes]:
    """Return a tensor's values, and the binary data of the tensors after it."""
    size = tensor.parameters.get("binary_data_size")
    if size is not None:
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(binary):
            raise RequestError(f"inputs: {tensor.name} has a binary_data_size beyond the body")
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
    try:
        FilmIn(**texts, poster=None)
    except ValidationError as error:
        raise UnprocessableError(invalid_request(error, FilmIn)) from None
    return make_film(state().settings, plot=texts["plot"], title=texts["title"], poster=values.get("poster") or None)


def _unpack(content: bytes) -> list[bytes]:
    """Return the elements of a binary BYTES tensor: each follows its length in 4 bytes, little-endian."""
    values, at = [], 0
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "little")
        if at + 4 + length > len(content):
            raise RequestError("inputs: a binary tensor ends within an element")
        values.append(content[at + 4 : at + 4 + length])
        at += 4 + length
    return values


def _answer(name: str, asked: InferIn, predictions: Sequence[Prediction]) -> Response:
    arrays: dict[str, NDArray[Any]] = {
        "probabilities": np.array([list(found.probabilities.values()) for found in predictions], dtype=np.float32),
        "genres": np.array(["|".join(found.genres) for found in predictions], dtype=object),
        "confidence": np.array([found.confidence for found in predictions], dtype=np.float32),
        "sure": np.array([found.sure for found in predictions]),
    }
    all_binary = asked.parameters.get("binary_data_output", False)
    wanted: dict[str, Any] = {item.name: item.parameters.get("binary_data", all_binary) for item in asked.outputs}
    outputs, tail = [], b""
    for output_name, as_binary in (wanted or dict.fromkeys(arrays, all_binary)).items():
        array, kind = arrays[output_name], OUTPUTS[output_name]
        output: dict[str, Any] = {"name": output_name, "datatype": kind, "shape": list(array.shape)}
        if as_binary:
            packed = _pack(kind, array)
            output["parameters"] = {"binary_data_size": len(packed)}
            tail += packed
        else:
            output["data"] = array.ravel().tolist()
        outputs.append(output)
    value = {"model_name": name, "model_version": VERSION, "outputs": outputs}
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
