"""Write torch modules as ONNX graphs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmgcs.models import Encoder

OPSET = 18


class _NamedInputs(nn.Module):
    """Give a fusion one input for each branch, because a graph's inputs cannot be lists."""

    def __init__(self, fusion: nn.Module) -> None:
        super().__init__()
        self.fusion = fusion

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self.fusion(list(inputs[:-1]), inputs[-1])
        return logits


def export_encoder(encoder: Encoder, path: Path) -> None:
    """Write an encoder as a graph from its collated inputs to `features` (batch, width) float32 and other outputs."""
    example = encoder.example(2)
    _export(encoder, tuple(example.values()), path, list(example), encoder.outputs, encoder.dynamic_axes())


def export_fusion(fusion: nn.Module, names: Sequence[str], widths: Sequence[int], path: Path) -> None:
    """Write a fusion as a graph from the branches' features, under their names, and `present` to `logits`."""
    example = [torch.randn(2, width) for width in widths] + [torch.ones(2, len(widths))]
    inputs = [*names, "present"]
    _export(_NamedInputs(fusion), tuple(example), path, inputs, ("logits",), {name: {0: "batch"} for name in inputs})


class _Stem(nn.Module):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: Tensor) -> Tensor:
        return self.encoder.stem({"pixels": pixels})


def open_stem(encoder: Encoder) -> Callable[[dict[str, NDArray[Any]]], NDArray[Any]]:
    """Return a function that computes the stem of an encoder of posters with onnxruntime, in 32 bits.

    The function turns `pixels` (batch, height, width, 3) uint8 into hidden values, on a CPU much faster than torch.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "stem.onnx"
        _export(_Stem(encoder), (encoder.example(2)["pixels"],), path, ["pixels"], ["hidden"], encoder.dynamic_axes())
        session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda inputs: np.asarray(session.run(["hidden"], {"pixels": inputs["pixels"]})[0])


def _export(
    module: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    inputs: list[str],
    outputs: Sequence[str],
    axes: dict[str, dict[int, str]],
) -> None:
    was_training = module.training
    module.eval()
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # The tracing exporter is deprecated in favour of the dynamo one, which fixes the batch size of encoders
            # whose masks depend on it. Tracing is safe because the models' control flow does not depend on data.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                example,
                str(path),
                input_names=inputs,
                output_names=list(outputs),
                dynamic_axes={**{output: {0: "batch"} for output in outputs}, **axes},
                opset_version=OPSET,
                dynamo=False,
            )
    finally:
        log.setLevel(level)
        module.train(was_training)
