"""A stock client of the Open Inference Protocol lists, describes and infers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

PLOT = "Two detectives hunt a killer through the city"


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_lists_loads_metadata_and_infers(running: Any, poster: bytes, binary: bool) -> None:
    http = pytest.importorskip("tritonclient.http")
    with http.InferenceServerClient(f"127.0.0.1:{running.port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("mmgcs")
        name = running.ask("/api/v1/model").json()["name"]
        assert [model["name"] for model in client.get_model_repository_index()] == [name]
        assert client.is_model_ready(name)
        assert client.get_model_config(name)["name"] == name
        metadata = client.get_model_metadata("mmgcs")
        assert [item["name"] for item in metadata["inputs"]] == ["plot", "title", "poster"]
        plots = np.array([PLOT.encode(), b""], dtype=object)
        tensors = [http.InferInput("plot", [2], "BYTES")]
        tensors[0].set_data_from_numpy(plots, binary_data=binary)
        if binary:
            tensors.append(http.InferInput("poster", [2], "BYTES"))
            tensors[1].set_data_from_numpy(np.array([b"", poster], dtype=object))
        else:
            tensors[0] = http.InferInput("plot", [1], "BYTES")
            tensors[0].set_data_from_numpy(plots[:1], binary_data=False)
        outputs = [http.InferRequestedOutput(name, binary_data=binary) for name in ("probabilities", "genres", "sure")]
        result = client.infer(name, tensors, outputs=outputs, request_id="one", request_compression_algorithm="gzip")
        rows = 2 if binary else 1
        assert result.as_numpy("probabilities").shape == (rows, 10)
        first = result.as_numpy("genres")[0]
        assert (first.decode() if isinstance(first, bytes) else first) == "Crime|Thriller"
        assert result.as_numpy("sure").shape == (rows,)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"inputs": []},
        {"inputs": [5]},
        {"inputs": [{"name": "plot", "datatype": "FP32", "shape": [1], "data": [1]}]},
        {"inputs": [{"name": "plot", "datatype": "BYTES", "shape": [2], "data": ["a"]}]},
        {"inputs": [{"name": "plot", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 9}}]},
        {"inputs": [{"name": "plot", "datatype": "BYTES", "shape": [1], "data": ["a"]}], "outputs": [{"name": "x"}]},
    ],
)
def test_a_wrong_request_is_400(running: Any, value: Any) -> None:
    answer = running.post("/v2/models/mmgcs/infer", value)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_another_model_is_404(running: Any) -> None:
    assert running.ask("/v2/models/other").status_code == 404
