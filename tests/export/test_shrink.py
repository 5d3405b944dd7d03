"""Smaller graphs: fewer words, fewer bits."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from mmgcs.export import has_words, is_int8, prune_vocabulary, quantize_blocks, quantize_dynamic, to_float

WORDS, WIDTH = 400, 96


def graph(weights: np.ndarray, table: np.ndarray) -> onnx.ModelProto:
    """The mean of `tanh(softsign(table[ids]) · weights)` over a film's tokens."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"], name="look_up"),
        helper.make_node("Softsign", ["rows"], ["softened"]),
        helper.make_node("MatMul", ["softened", "weights"], ["product"], name="multiply"),
        helper.make_node("Tanh", ["product"], ["bent"]),
        helper.make_node("ReduceMean", ["bent", "axes"], ["features"], keepdims=0),
    ]
    constants = {"table": table, "weights": weights, "axes": np.array([1])}
    made = helper.make_graph(
        nodes,
        "words",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", "T"])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", weights.shape[1]])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    # Words lie near a plane of 24 directions, as those of a language do; the matrix has no such structure.
    table = random.normal(size=(WORDS, 24)) @ random.normal(size=(24, WIDTH)) * 0.1
    table += random.normal(size=table.shape) * 0.02
    return graph(random.normal(size=(WIDTH, WIDTH)).astype(np.float32) * 0.2, table.astype(np.float32))


def run(model: onnx.ModelProto, ids: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["features"], {"input_ids": ids})[0]


def tokens(films: int = 32, seed: int = 1) -> np.ndarray:
    # Zipf: word n occurs 1 / n as often as the first
    share = 1.0 / np.arange(1, WORDS + 1)
    return np.random.default_rng(seed).choice(WORDS, (films, 12), p=share / share.sum())


def test_kept_words_say_what_they_said_and_others_what_the_nearest_kept_one_says(model):
    counts = np.bincount(tokens(500).ravel(), minlength=WORDS)
    small = prune_vocabulary(model, counts, 0.25, always=[WORDS - 1])
    kept = np.argsort(-counts, kind="stable")[:99]
    assert np.allclose(run(small, kept.reshape(9, 11)), run(model, kept.reshape(9, 11)))
    assert np.allclose(run(small, np.array([[WORDS - 1]])), run(model, np.array([[WORDS - 1]])))
    table = numpy_helper.to_array(model.graph.initializer[0])
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    kept = np.append(kept, WORDS - 1)
    for word in np.setdiff1d(np.arange(WORDS), kept)[:20]:
        nearest = kept[np.argmax(unit[kept] @ unit[word])]
        assert np.allclose(run(small, np.array([[word]])), run(model, np.array([[nearest]])))


def test_an_int8_graph_can_be_pruned_too(model, tmp_path):
    onnx.save(model, tmp_path / "float.onnx")
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    int8 = onnx.load(tmp_path / "int8.onnx")
    assert is_int8(int8) and not is_int8(model)
    small = prune_vocabulary(int8, np.arange(WORDS)[::-1], 0.5)
    assert small.ByteSize() < 0.8 * int8.ByteSize()
    ids = tokens() % (WORDS // 2)
    assert np.allclose(run(small, ids), run(int8, ids), atol=1e-6)


def test_an_int8_graph_in_float_again_answers_the_same_and_quantized_again_too(model, tmp_path):
    onnx.save(model, tmp_path / "float.onnx")
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    int8 = onnx.load(tmp_path / "int8.onnx")
    plain = to_float(int8)
    assert not [node for node in plain.graph.node if node.op_type == "MatMulInteger"]
    ids = tokens()
    exact = run(model, ids)
    assert np.abs(run(plain, ids) - exact).max() < 0.02
    onnx.save(plain, tmp_path / "plain.onnx")
    quantize_dynamic(tmp_path / "plain.onnx", tmp_path / "again.onnx")
    again = onnx.load(tmp_path / "again.onnx")
    assert again.ByteSize() < 1.1 * int8.ByteSize()
    # On average: processors without VNNI saturate single sums of 8-bit products.
    assert np.abs(run(again, ids) - exact).mean() < 0.03
    assert has_words(again)


def test_four_bits_are_smaller_than_eight_and_say_nearly_the_same(model, tmp_path):
    onnx.save(model, tmp_path / "float.onnx")
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    quantize_blocks(tmp_path / "float.onnx", tmp_path / "int4.onnx")
    assert (tmp_path / "int4.onnx").stat().st_size < (tmp_path / "int8.onnx").stat().st_size
    exact, small = run(model, tokens()), run(onnx.load(tmp_path / "int4.onnx"), tokens())
    cosine = (exact * small).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(small, axis=1)
    assert cosine.min() > 0.98
