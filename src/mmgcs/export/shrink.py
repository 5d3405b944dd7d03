"""Making graphs smaller: fewer words in the tables of embeddings, and thinner matrices. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LEAST_WORDS = 256
"""Rows under which a table of embeddings is left as it is."""
LEAST_SIDE = 64
"""Rows or columns under which a matrix is left as it is."""
LEAST_QUANTIZED = 1024
"""Integers under which a graph's initializer is a shape or an index, and no weight in 8 bits."""

Arrays = Mapping[str, NDArray[np.generic]]


def is_int8(model: onnx.ModelProto) -> bool:
    """Whether a graph has weights in 8 bits."""
    return any(
        tensor.data_type in (TensorProto.INT8, TensorProto.UINT8) and np.prod(tensor.dims) >= LEAST_QUANTIZED
        for tensor in model.graph.initializer
    )


def word_tables(model: onnx.ModelProto, ids: str = "input_ids") -> list[onnx.NodeProto]:
    """The look-ups of the graph's token ids in tables that are part of it."""
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
    """Keep the commonest words' rows of the embedding tables; every other word uses the row of the kept one nearest it.

    Nearest is by cosine in the widest table. The tokenizer stays as it is: a small table in the graph leads each token
    to its row.

    Args:
        model: a graph with `word_tables`, in float or int8.
        counts: (vocabulary,) how often each token occurs in plots like those to come.
        share: the share of rows to keep.
        always: tokens to keep whatever their count.
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


def pruning_saves(model: onnx.ModelProto, share: float, ids: str = "input_ids") -> int:
    """The bytes that `prune_vocabulary` would save, but for a few of the graph's own."""
    tables = {tensor.name: tensor for tensor in model.graph.initializer}
    names = {node.input[0] for node in word_tables(model, ids)}
    if not names:
        return 0
    words = max(int(tables[name].dims[0]) for name in names)
    gone = words - max(1, round(share * words))
    rows = sum(len(numpy_helper.to_array(tables[name])[0].tobytes()) for name in names)
    return gone * rows - words * (2 if words - gone <= 2**16 else 4)


def _floats(model: onnx.ModelProto, name: str) -> NDArray[np.float32]:
    """A table's rows as numbers that point the right way: less its zero point, where it is quantised."""
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
    """For each row of the table (words, width) where in `keep` the row with the largest cosine is, (words,)."""
    unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)
    kept = unit[keep].T
    place = np.concatenate([(unit[start : start + 2048] @ kept).argmax(1) for start in range(0, len(unit), 2048)])
    place[keep] = np.arange(len(keep))
    return place


def to_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its dynamically quantised matrix products in float again, as weights that can be changed."""
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
        if before.op_type != "DynamicQuantizeLinear":  # rows of a quantised table, which were never in float
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


@dataclass(frozen=True)
class Factors:
    """A matrix as the product of two, with its directions in order of what they matter; cut, it is of lower rank.

    Attributes:
        first: (inputs, rank).
        second: (rank, outputs).
    """

    first: NDArray[np.float32]
    second: NDArray[np.float32]


def factorise(model: onnx.ModelProto, batches: Iterable[Arrays]) -> dict[str, Factors]:
    """Every large matrix of a graph's matrix products, by the name of the product's output, as two factors.

    Cut at any rank, their product is the best of that rank for the inputs that `batches` bring to the matrix: the
    singular value decomposition of the matrix after whitening its inputs (as in SVD-LLM, Wang et al. 2024).

    Args:
        model: a graph in float (see `to_float`).
        batches: some of the graph's inputs.
    """
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    products = [
        node
        for node in model.graph.node
        if node.op_type == "MatMul"
        and node.input[1] in arrays
        and len(arrays[node.input[1]].dims) == 2
        and min(arrays[node.input[1]].dims) >= LEAST_SIDE
    ]
    factors = {}
    grams = _grams(model, sorted({node.input[0] for node in products}), batches)
    for node in products:
        weights = numpy_helper.to_array(arrays[node.input[1]]).astype(np.float32)  # (inputs, outputs)
        gram = grams[node.input[0]]
        gram = gram + np.eye(len(gram), dtype=np.float32) * np.float32(1e-3 * np.trace(gram) / len(gram))
        root = np.linalg.cholesky(gram)  # gram = root · rootᵀ
        left, sizes, right = np.linalg.svd(root.T @ weights, full_matrices=False)
        scale = np.sqrt(sizes)
        factors[node.output[0]] = Factors(np.linalg.solve(root.T, left * scale), scale[:, None] * right)
    return factors


def thin(model: onnx.ModelProto, factors: Mapping[str, Factors], share: float) -> onnx.ModelProto:
    """Put two thin matrices in place of each large one, with `share` of its numbers.

    Args:
        model: the graph that `factors` were made of.
        factors: see `factorise`.
        share: numbers to keep of each matrix, between 0 and 1.
    """
    small = _copy(model)
    nodes = []
    for node in small.graph.node:
        parts = factors.get(node.output[0])
        if parts is None:
            nodes.append(node)
            continue
        inputs, outputs = len(parts.first), parts.second.shape[1]
        rank = max(1, int(share * inputs * outputs / (inputs + outputs)))
        name = node.input[1]
        cut = {"first": parts.first[:, :rank], "second": parts.second[:rank]}
        for suffix, part in cut.items():
            small.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(part), f"{name}_{suffix}"))
        between = f"{node.output[0]}_thin"
        nodes.append(helper.make_node("MatMul", [node.input[0], f"{name}_first"], [between], name=f"{node.name}_first"))
        nodes.append(helper.make_node("MatMul", [between, f"{name}_second"], [node.output[0]], name=node.name))
    _replace(small.graph, nodes)
    return small


def _grams(model: onnx.ModelProto, names: list[str], batches: Iterable[Arrays]) -> dict[str, NDArray[np.float32]]:
    """For each of these values in the graph, the mean of xᵀx over its rows x, while the graph runs on `batches`."""
    import onnxruntime as ort

    watched = _copy(model)
    known = {output.name for output in watched.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    grams: dict[str, NDArray[np.float32]] = {}
    total = 0
    for batch in batches:
        total += 1
        for name, value in zip(names, session.run(names, dict(batch)), strict=True):
            rows = value.reshape(-1, value.shape[-1])
            gram = rows.T @ rows / len(rows)
            grams[name] = grams[name] + gram if name in grams else gram
    return {name: gram / np.float32(total) for name, gram in grams.items()}


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def _replace(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Give the graph these nodes, without those and the weights that nothing reads any more."""
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
