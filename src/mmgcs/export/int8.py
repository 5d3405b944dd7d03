"""Quantize graphs: 8 bits (dynamic for text, calibrated for posters), 4 bits in blocks, or 16-bit weights."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

Inputs = dict[str, NDArray[Any]]
"""The inputs of a graph, by name."""


@contextmanager
def _quiet() -> Iterator[None]:
    # The quantizers log advice through the root logger, and one of them configures it on import.
    root = logging.getLogger()
    level, handlers, disabled = root.level, list(root.handlers), logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.setLevel(level)
        root.handlers[:] = handlers


def quantize_dynamic(source: Path, target: Path, batches: Iterable[Inputs] = ()) -> None:
    """Quantize matrix weights and embeddings, with one scale per channel; activations are scaled at run time.

    Uses all 8 bits. With 7 (`reduce_range`), which only x86 processors without VNNI (before 2019) need to be exact, the
    default text graph lost 0.5 points of macro-F1 on `valid` and a fifth of its speed.

    Args:
        source: the graph in float.
        target: the file to write.
        batches: some typical inputs of the graph, to find activations that need smoothing.
    """
    with _quiet(), TemporaryDirectory() as folder:
        smooth, whole = Path(folder) / "smooth.onnx", Path(folder) / "whole.onnx"
        _smooth_activations(source, smooth, batches)
        _quantize_weights(smooth, whole, ["MatMul", "Gather"])
        fold_constants(whole, target)


def _smooth_activations(source: Path, target: Path, batches: Iterable[Inputs]) -> None:
    """Divide the largest channels of activations, and multiply the weights they meet by the same numbers.

    All activations of a matrix product share one scale, and in a transformer a single channel can be thirty times as
    large as the others, which then get few of the 8 bits. After Xiao et al. 2023, SmoothQuant (arXiv:2211.10438), but
    only the largest 5% of the channels are changed: the default text graph lost .009 mAP in 8 bits without this, and
    loses .002 with it.
    """
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(source))
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    uses = Counter(name for node in graph.node for name in node.input)
    computed = {name for node in graph.node for name in node.output}
    products = [
        node
        for node in graph.node
        if node.op_type == "MatMul"
        and node.input[0] in computed
        and node.input[1] in weights
        and uses[node.input[1]] == 1  # shared weights would be scaled twice
    ]
    names = sorted({node.input[0] for node in products})
    watched = onnx.ModelProto.FromString(model.SerializeToString())
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = ort.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    largest: dict[str, NDArray[np.float32]] = {}
    for batch in batches if names else ():  # asked for no names, onnxruntime returns the graph's outputs
        for name, value in zip(names, session.run(names, batch), strict=True):
            most = np.abs(value).reshape(-1, value.shape[-1]).max(0)
            largest[name] = np.maximum(most, largest.get(name, most))
    scales = {}
    for name, most in largest.items():
        usual = np.maximum(np.quantile(most, 0.95), 1e-6)
        scales[name] = np.maximum(1.0, most / usual).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(1.0 / scales[name], f"{name}_scale"))
    for node in products:
        if (scale := scales.get(node.input[0])) is not None:
            tensor = weights[node.input[1]]
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * scale[:, None], tensor.name))
            node.input[0] += "_smooth"
    made = {name: helper.make_node("Mul", [name, f"{name}_scale"], [f"{name}_smooth"]) for name in scales}
    nodes = [each for node in graph.node for each in (node, *(made[name] for name in node.output if name in made))]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, str(target))


def fold_constants(source: Path, target: Path) -> None:
    """Fold constants. The outputs stay the same, bit for bit; opening the graph takes a third less time.

    Uses only onnxruntime's basic level, which keeps to standard operators: they run on every version and can be shrunk.
    """
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    options.optimized_model_filepath = str(target)
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    model = onnx.load(str(target))
    used = {node.domain for node in model.graph.node}
    # onnxruntime lists all operator sets it knows, and readers reject those they do not.
    kept = [each for each in model.opset_import if each.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    onnx.save(model, str(target))


def _quantize_weights(source: Path, target: Path, kinds: list[str]) -> None:
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_dynamic as quantize

    quantize(
        source,
        target,
        per_channel=True,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=kinds,
        nodes_to_exclude=_narrow_tables(source),
    )


def _narrow_tables(graph: Path) -> list[str]:
    """Return look-ups in tables of fewer than 64 columns: these hold logits, are small, and would lose precision."""
    import onnx

    model = onnx.load(str(graph)).graph
    narrow = {tensor.name for tensor in model.initializer if len(tensor.dims) == 2 and tensor.dims[1] < 64}
    return [node.name for node in model.node if node.op_type == "Gather" and node.input[0] in narrow]


def halve_weights(source: Path, target: Path) -> None:
    """Store large weights in 16 bits, which halves the size at no measurable cost; the graph still computes in 32."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(source))
    casts = []
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.size >= 1024 and np.abs(value).max() < np.finfo(np.float16).max:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float16), f"{name}_half"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(target))


class _Reader:
    def __init__(self, batches: Iterable[Inputs]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> Inputs | None:
        return next(self._batches, None)


def quantize_static(source: Path, target: Path, batches: Iterable[Inputs]) -> None:
    """Quantize convolutions, with the ranges of activations measured on `batches` of prepared posters."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as quantize
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with _quiet(), TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.onnx"
        quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
        quantize(
            str(ready),
            str(target),
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            op_types_to_quantize=["Conv", "Add", "MatMul", "Gemm"],
        )


def quantize_blocks(source: Path, target: Path) -> None:
    """Quantize the weights of matrix products to 4 bits, in blocks of 32 with one scale, and embedding tables to int8.

    Half the size of int8, but slower: the weights are unpacked to int8 before every product.
    """
    import onnx

    with _quiet(), TemporaryDirectory() as folder:
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        tables = Path(folder) / "tables.onnx"
        _quantize_weights(source, tables, ["Gather"])
        quantizer = MatMulNBitsQuantizer(onnx.load(str(tables)), block_size=32, is_symmetric=True, accuracy_level=4)
        quantizer.process()
        onnx.save(quantizer.model.model, str(target))
