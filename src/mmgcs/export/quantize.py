"""Graphs with 8-bit weights: dynamic for text, static (calibrated) for posters."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from numpy.typing import NDArray

NARROW = 64
"""Columns under which a look-up table stays in float."""


@contextmanager
def _quiet() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the quantiser advises through the root logger
    try:
        yield
    finally:
        root.setLevel(level)


def quantize_dynamic(source: Path, target: Path) -> None:
    """Weights of matrix products and embeddings in int8, one scale a channel; activations are scaled as they come.

    All 8 bits are used: with 7 (`reduce_range`), which only x86 processors from before VNNI (2019) need to be exact,
    the default text graph lost 0.5 points of macro-F1 on `valid` and a fifth of its speed.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_dynamic as quantize

    with _quiet():
        quantize(
            source,
            target,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gather"],
            nodes_to_exclude=_narrow_tables(source),
        )


def _narrow_tables(graph: Path) -> list[str]:
    """Look-ups in tables of few columns: they hold finished logits, are small, and would lose precision for nothing."""
    import onnx

    model = onnx.load(str(graph)).graph
    narrow = {tensor.name for tensor in model.initializer if len(tensor.dims) == 2 and tensor.dims[1] < NARROW}
    return [node.name for node in model.node if node.op_type == "Gather" and node.input[0] in narrow]


class _Reader:
    def __init__(self, batches: Iterable[dict[str, NDArray[Any]]]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._batches, None)


def quantize_static(source: Path, target: Path, batches: Iterable[dict[str, NDArray[Any]]]) -> None:
    """Convolutions in int8, with the range of every activation measured on `batches` of prepared posters."""
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
