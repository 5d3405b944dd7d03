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
from werkzeug.exceptions import BadRequest, NotFound, RequestEntityTooLarge, UnprocessableEntity, UnsupportedMediaType

from mmgcs.film import Film, Prediction
from mmgcs.version import __version__
from mmgcs.web.openapi import FAILURES, V2, describe, invalid_request
from mmgcs.web.schemas import FilmIn, InferIn, InferOut, TensorIn
from mmgcs.web.state import state

blueprint = Blueprint("oip", __name__, url_prefix="/v2")

VERSION = "1"
INPUTS = ("plot", "title", "poster")
OUTPUTS = {"probabilities": "FP32", "genres": "BYTES", "confidence": "FP32", "sure": "BOOL"}

_LENGTH = "Inference-Header-Content-Length"
_PATH = {"name": 'The model\'s name from /api/v1/model, or "mmgcs".', "version": "The version: 1."}


@blueprint.get("")
@describe(V2, "oipServer", None, "The server.")
def server() -> Any:
    """Return the server's metadata."""
    return {"name": "mmgcs", "version": __version__, "extensions": ["binary_tensor_data", "model_repository"]}


@blueprint.get("/health/live")
@describe(V2, "oipLive", None, "The process answers.")
def live() -> Any:
    """Answer 200 while the process is alive."""
    return {"live": True}


@blueprint.get("/health/ready")
@describe(V2, "oipReady", None, "Requests can be predicted.", 503)
def ready() -> Any:
    """Answer 200 only if requests can be predicted."""
    if state().draining:
        return jsonify(error="the server is shutting down"), 503, {"Retry-After": "5"}
    return {"ready": True}


@blueprint.post("/repository/index")
@describe(V2, "oipIndex", None, "The models.", 401, 429, 503, skip_validation=True)
def index() -> Any:
    """List the models: there is one."""
    return jsonify([{"name": _name(), "version": VERSION, "state": "READY", "reason": ""}])


@blueprint.get("/models/<name>")
@blueprint.get("/models/<name>/versions/<version>")
@describe(V2, None, None, "The model's inputs and outputs.", 404, path_parameter_descriptions=_PATH)
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
@describe(V2, None, None, "The model's configuration.", 404, path_parameter_descriptions=_PATH)
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
@describe(V2, None, None, "The model can predict.", 404, 503, path_parameter_descriptions=_PATH)
def model_ready(name: str, version: str = VERSION) -> Any:
    """Answer 200 only if the model can predict."""
    _check_name(name, version)
    return ready()


@blueprint.post("/models/<name>/infer")
@blueprint.post("/models/<name>/versions/<version>/infer")
@describe(
    V2,
    None,
    InferOut,
    "The outputs. Those requested as binary data follow the JSON.",
    404,
    *FAILURES,
    json=InferIn,
    path_parameter_descriptions=_PATH,
    skip_validation=True,
)
def infer(name: str, version: str = VERSION) -> Any:
    """Predict films."""
    _check_name(name, version)
    inference, binary = _split(_body())
    predictions = state().predict(_films(inference, binary))
    for row, prediction in enumerate(predictions):
        if prediction.error is not None:
            raise UnprocessableEntity(f"film {row}: {prediction.error}")
    return _answer(name, inference, predictions)


def _name() -> str:
    return state().classifier.bundle.config.name


def _check_name(name: str, version: str) -> None:
    if name not in (_name(), "mmgcs") or version != VERSION:  # "mmgcs" works for every model
        raise NotFound(f"there is no such model; this server has {_name()}, version {VERSION}")


def _shape(output: str) -> list[int]:
    return [-1, len(state().classifier.genres)] if output == "probabilities" else [-1]


def _body() -> bytes:
    """Return the request's body, decompressed."""
    content = request.get_data(cache=False)
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding == "identity":
        return content
    if encoding not in ("gzip", "deflate"):
        raise UnsupportedMediaType("unsupported Content-Encoding; use gzip, deflate or none")
    limit = state().settings.max_body
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)  # detects which of the two it is
    try:
        content = decompressor.decompress(content, limit)
    except zlib.error:
        raise BadRequest(f"the body is not {encoding}; check Content-Encoding") from None
    if decompressor.unconsumed_tail:
        raise RequestEntityTooLarge(f"the request has over {limit:,} bytes when decompressed; send less")
    return content


def _split(content: bytes) -> tuple[InferIn, bytes]:
    """Return the request's JSON, and the binary tensors that follow it."""
    try:
        length = int(request.headers.get(_LENGTH, len(content)))
        inference = InferIn.model_validate(current_app.json.loads(content[:length].decode("utf-8")))
    except ValidationError as error:
        raise BadRequest(invalid_request(error, InferIn)) from None
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body or {_LENGTH} is invalid ({str(error)[:100]}); correct it") from None
    return inference, content[length:]


def _films(inference: InferIn, binary: bytes) -> list[Film]:
    count, limit = inference.inputs[0].shape[0], state().settings.max_batch
    if count > limit:
        raise UnprocessableEntity(f"{count} films, over the limit of {limit}; send several requests")
    films: list[dict[str, Any]] = [{} for _ in range(count)]
    for tensor in inference.inputs:
        values, binary = _values(tensor, binary)
        if not len(values) == tensor.shape[0] == count:
            raise BadRequest(f"inputs: {tensor.name} needs one value for each of {count} films, and that shape")
        for film, value in zip(films, values, strict=True):
            film[tensor.name] = value or None
    try:
        for film in films:
            FilmIn(plot=film.get("plot"), title=film.get("title"), poster=None)
    except ValidationError as error:
        raise UnprocessableEntity(invalid_request(error, FilmIn)) from None
    return [state().make_film(**film) for film in films]


def _values(tensor: TensorIn, binary: bytes) -> tuple[list[bytes | str | None], bytes]:
    """Return a tensor's values, and the binary data of the tensors after it."""
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        return [value[0] if isinstance(value, list) else value for value in tensor.data or []], binary
    if not isinstance(size, int) or not 0 <= size <= len(binary):
        raise BadRequest(f"inputs: {tensor.name} has a binary_data_size beyond the body")
    values: list[bytes | str | None] = []
    at = 0
    while at < size:  # each element follows its length in 4 bytes, little-endian
        length = int.from_bytes(binary[at : at + 4], "little")
        if at + 4 + length > size:
            raise BadRequest("inputs: a binary tensor ends within an element")
        value = binary[at + 4 : at + 4 + length]
        try:
            values.append(value if tensor.name == "poster" else value.decode("utf-8"))
        except UnicodeDecodeError:
            raise BadRequest(f"inputs: a {tensor.name} is not UTF-8") from None
        at += 4 + length
    return values, binary[size:]


def _answer(name: str, inference: InferIn, predictions: Sequence[Prediction]) -> Response:
    arrays: dict[str, NDArray[Any]] = {
        "probabilities": np.array([list(found.probabilities.values()) for found in predictions], dtype="<f4"),
        "genres": np.array(["|".join(found.genres) for found in predictions], dtype=object),
        "confidence": np.array([found.confidence for found in predictions], dtype="<f4"),
        "sure": np.array([found.sure for found in predictions]),
    }
    all_binary = inference.parameters.get("binary_data_output", False)
    wanted: dict[str, Any] = {item.name: item.parameters.get("binary_data", all_binary) for item in inference.outputs}
    outputs, tail = [], b""
    for output_name, as_binary in (wanted or dict.fromkeys(arrays, all_binary)).items():
        array = arrays[output_name]
        output: dict[str, Any] = {"name": output_name, "datatype": OUTPUTS[output_name], "shape": list(array.shape)}
        if as_binary:
            texts = [text.encode() for text in array] if array.dtype == object else []
            packed = b"".join(len(text).to_bytes(4, "little") + text for text in texts) or array.tobytes()
            output["parameters"] = {"binary_data_size": len(packed)}
            tail += packed
        else:
            output["data"] = array.ravel().tolist()
        outputs.append(output)
    value = {"model_name": name, "model_version": VERSION, "outputs": outputs}
    if inference.id is not None:
        value["id"] = inference.id
    if not tail:
        return jsonify(value)
    header = json.dumps(value).encode()
    return Response(header + tail, content_type="application/octet-stream", headers={_LENGTH: str(len(header))})
