"""Prune the vocabulary of graphs, and convert int8 graphs back to float. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.utils import Extractor


def is_int8(model: onnx.ModelProto) -> bool:
    """Return True if a graph has 8-bit weights."""
    # Smaller integer tensors are shapes or indices.
    return any(
        tensor.data_type in (TensorProto.INT8, TensorProto.UINT8) and np.prod(tensor.dims) >= 1024
        for tensor in model.graph.initializer
    )


def has_words(model: onnx.ModelProto) -> bool:
    """Return True if a graph has embedding tables that `prune_vocabulary` can make smaller."""
    return bool(_look_ups(model))


def _look_ups(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the look-ups of token ids in tables of at least 256 rows; smaller ones are not worth pruning."""
    tables = {tensor.name for tensor in model.graph.initializer if tensor.dims and tensor.dims[0] >= 256}
    return [
        node
        for node in model.graph.node
        if node.op_type == "Gather" and node.input[1] == "input_ids" and node.input[0] in tables
    ]


def prune_vocabulary(
    model: onnx.ModelProto, counts: NDArray[np.int64], share: float, always: Iterable[int] = ()
) -> onnx.ModelProto:
    """Keep only the most common words' rows of the embedding tables; other words use the row of the nearest kept word.

    The nearest word is found by cosine in the widest table. The tokenizer does not change: a small table in the graph
    maps each token to its row.

    Args:
        model: a graph that `has_words`, in float or int8.
        counts: (vocabulary,) the frequency of each token in typical plots.
        share: the share of rows to keep.
        always: tokens to keep in any case.
    """
    small = onnx.ModelProto.FromString(model.SerializeToString())
    nodes = _look_ups(small)
    tables = {tensor.name: tensor for tensor in small.graph.initializer}
    names = sorted({node.input[0] for node in nodes}, key=lambda name: -tables[name].dims[1])
    words = tables[names[0]].dims[0]
    rank = np.zeros(words)
    rank[: len(counts)] = counts[:words]
    rank[list(always)] = np.inf
    keep = np.sort(np.argsort(-rank, kind="stable")[: max(1, round(share * words))])
    place = _nearest(_floats(small, names[0]), keep).astype(np.uint16 if len(keep) <= 2**16 else np.int32)
    for name in names:
        tables[name].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tables[name])[keep], name))
    small.graph.initializer.append(numpy_helper.from_array(place, "row_of_token"))
    for node in nodes:
        node.input[1] = "token_rows"
    short = helper.make_node("Gather", ["row_of_token", "input_ids"], ["token_rows_short"])
    small.graph.node.insert(0, helper.make_node("Cast", ["token_rows_short"], ["token_rows"], to=TensorProto.INT32))
    small.graph.node.insert(0, short)
    onnx.checker.check_model(small)
    return small


def _floats(model: onnx.ModelProto, name: str) -> NDArray[np.float32]:
    """Return a table's rows up to a scale, less the zero point if it is quantized."""
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    table: NDArray[np.float32] = numpy_helper.to_array(arrays[name]).astype(np.float32)
    gathered = {node.output[0] for node in model.graph.node if node.op_type == "Gather" and node.input[0] == name}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in gathered and len(node.input) > 2:
            return table - np.float32(numpy_helper.to_array(arrays[node.input[2]]))
    return table


def _nearest(table: NDArray[np.float32], keep: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each row of the table (words, width) the index in `keep` of the most similar row (words,)."""
    unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)
    kept = unit[keep].T
    place = np.concatenate([(unit[start : start + 2048] @ kept).argmax(1) for start in range(0, len(unit), 2048)])
    place[keep] = np.arange(len(keep))
    return place


def to_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with its dynamically quantized matrix products converted back to float."""
    plain = onnx.ModelProto.FromString(model.SerializeToString())
    graph = plain.graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    maker = {output: node for node in graph.node for output in node.output}
    reader = {name: node for node in graph.node for name in node.input}
    for node in graph.node:
        # x → DynamicQuantizeLinear → MatMulInteger → Cast → Mul by (scale of x · scale of the weights)
        if node.op_type != "MatMulInteger" or node.input[1] not in arrays:
            continue
        before = maker[node.input[0]]
        if before.op_type != "DynamicQuantizeLinear":  # rows of a quantized table, which were never float
            continue
        product = reader[reader[node.output[0]].output[0]]
        scales = next(maker[name] for name in product.input if maker[name].op_type == "Mul")
        scale = next(arrays[name] for name in scales.input if name in arrays)
        zero = arrays[node.input[3]].astype(np.float32) if len(node.input) > 3 else 0.0
        weights = ((arrays[node.input[1]].astype(np.float32) - zero) * scale).astype(np.float32)
        name = f"{node.input[1]}_float"
        graph.initializer.append(numpy_helper.from_array(weights, name))
        product.CopyFrom(helper.make_node("MatMul", [before.input[0], name], [product.output[0]], name=product.name))
    # Drop the nodes and weights that are no longer used.
    return Extractor(plain).extract_model([each.name for each in graph.input], [each.name for each in graph.output])
