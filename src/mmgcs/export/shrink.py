"""Make graphs smaller: fewer words in the embedding tables. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LEAST_WORDS = 256
"""Embedding tables with fewer rows are left as they are."""
LEAST_QUANTIZED = 1024
"""Integer initializers with fewer numbers are shapes or indices, not 8-bit weights."""


def is_int8(model: onnx.ModelProto) -> bool:
    """Return True if a graph has 8-bit weights."""
    return any(
        tensor.data_type in (TensorProto.INT8, TensorProto.UINT8) and np.prod(tensor.dims) >= LEAST_QUANTIZED
        for tensor in model.graph.initializer
    )


def word_tables(model: onnx.ModelProto, ids: str = "input_ids") -> list[onnx.NodeProto]:
    """Return the nodes that look up the graph's token ids in its own tables."""
    tables = {tensor.name: tensor for tensor in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type == "Gather"
        and node.input[1] == ids
        and node.input[0] in tables
        and tables[node.input[0]].dims[0] >= LEAST_WORDS
    ]


def prune_vocabulary(
    model: onnx.ModelProto, counts: NDArray[np.int64], share: float, always: Iterable[int] = (), ids: str = "input_ids"
) -> onnx.ModelProto:
    """Keep the most common words' rows of the embedding tables; other words use the row of the nearest kept word.

    Nearest is by cosine in the widest table. The tokenizer does not change: a small table in the graph maps each token
    to its row.

    Args:
        model: a graph with `word_tables`, in float or int8.
        counts: (vocabulary,) how often each token occurs in typical plots.
        share: the share of rows to keep.
        always: tokens to keep in any case.
        ids: the graph's input of token ids.
    """
    small = _copy(model)
    nodes = word_tables(small, ids)
    if not nodes:
        return small
    tables = {tensor.name: tensor for tensor in small.graph.initializer}
    names = sorted({node.input[0] for node in nodes}, key=lambda name: -tables[name].dims[1])
    widest = numpy_helper.to_array(tables[names[0]])
    words = len(widest)
    rank = np.zeros(words)
    rank[: len(counts)] = counts[:words]
    rank[list(always)] = np.inf
    keep = np.sort(np.argsort(-rank, kind="stable")[: max(1, round(share * words))])
    if len(keep) == words:
        return small
    place = _nearest(_floats(small, names[0]), keep)
    for name in names:
        tables[name].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tables[name])[keep], name))
    small.graph.initializer.append(
        numpy_helper.from_array(place.astype(np.uint16 if len(keep) <= 2**16 else np.int32), "row_of_token")
    )
    for node in nodes:
        node.input[1] = "token_rows"
    lookup = [
        helper.make_node("Gather", ["row_of_token", ids], ["token_rows_short"]),
        helper.make_node("Cast", ["token_rows_short"], ["token_rows"], to=TensorProto.INT32),
    ]
    nodes_after = [onnx.NodeProto.FromString(node.SerializeToString()) for node in small.graph.node]
    del small.graph.node[:]
    small.graph.node.extend([*lookup, *nodes_after])
    onnx.checker.check_model(small)
    return small


def _floats(model: onnx.ModelProto, name: str) -> NDArray[np.float32]:
    """Return a table's rows up to scale, without the zero point if it is quantized."""
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    stored = numpy_helper.to_array(arrays[name])
    table: NDArray[np.float32] = stored.astype(np.float32)
    if np.issubdtype(stored.dtype, np.floating):
        return table
    gathered = next(node.output[0] for node in model.graph.node if node.op_type == "Gather" and node.input[0] == name)
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] == gathered and len(node.input) > 2:
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
    plain = _copy(model)
    graph = plain.graph
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    maker = {output: node for node in graph.node for output in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    gone: set[int] = set()
    for node in list(graph.node):
        if node.op_type != "MatMulInteger" or node.input[1] not in arrays:
            continue
        before = maker[node.input[0]]
        if before.op_type != "DynamicQuantizeLinear":  # rows of a quantized table, which were never float
            continue
        # x → DynamicQuantizeLinear → MatMulInteger → Cast → Mul by (scale of x · scale of the weights)
        (cast,) = readers[node.output[0]]
        (product,) = readers[cast.output[0]]
        (scales,) = (maker[name] for name in product.input if name != cast.output[0])
        (weight_scale,) = (name for name in scales.input if name in arrays)
        weights = numpy_helper.to_array(arrays[node.input[1]]).astype(np.float32)
        zero = numpy_helper.to_array(arrays[node.input[3]]).astype(np.float32) if len(node.input) > 3 else 0.0
        floats = (weights - zero) * numpy_helper.to_array(arrays[weight_scale])
        name = f"{node.input[1]}_float"
        graph.initializer.append(numpy_helper.from_array(floats.astype(np.float32), name))
        gone |= {id(node), id(cast), id(scales)}
        product.CopyFrom(helper.make_node("MatMul", [before.input[0], name], [product.output[0]], name=product.name))
    _replace(graph, [node for node in graph.node if id(node) not in gone])
    return plain


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def _replace(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Set the graph's nodes, and remove nodes and weights that nothing reads."""
    wanted = {output.name for output in graph.output}
    used: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            used.append(node)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(used)]
    weights = [tensor for tensor in graph.initializer if tensor.name in wanted]
    copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in weights]
    del graph.node[:]
    del graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(copies)
