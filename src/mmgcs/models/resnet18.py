"""Posters through ResNet-18 (He et al. 2016), with the layers named as in torchvision's weights."""

from __future__ import annotations

import urllib.error
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.models.base import ENCODERS, ParameterGroups, linear_schedule_groups
from mmgcs.preprocess import PosterPixels

HUB = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
"""torchvision's ImageNet weights; the name carries the first digits of the file's SHA-256, which are checked."""

STAGES = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
# ImageNet's mean and standard deviation of pixel values (0 to 255), a number a colour.
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.downsample: nn.Module | None = None
        if stride != 1 or inside != outside:
            self.downsample = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inside, H, W) to (B, outside, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + shortcut)


def _layer(inside: int, outside: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(inside, outside, stride), BasicBlock(outside, outside, 1))


@ENCODERS.register("resnet18")
class ResNet18(nn.Module):
    """ResNet-18 whose early layers are frozen, with a hidden layer before the head: a two-layer head in all.

    Args:
        weights: "hub" (torchvision's ImageNet weights, downloaded once), an http(s) address or a .pth or .safetensors
            file in torchvision's key layout, or "none" for a random start.
        height, width_px: the size that posters are stretched to, in pixels.
        train_from: the first layer that is trained: "layer4" (the default), an earlier one, "conv1" for all, or
            "head" for none. A frozen layer's BatchNorm statistics stay as they are.
        hidden: units of the hidden layer, which are the features.
        dropout: dropout on the features.
    """

    input = "poster"
    kind = "pixels"

    def __init__(
        self,
        weights: str = "hub",
        height: int = 224,
        width_px: int = 224,
        train_from: str = "layer4",
        hidden: int = 256,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if train_from not in (*STAGES, "head"):
            raise UsageError(f"poster.encoder.train_from is {train_from!r}; known: {', '.join(STAGES)}, head")
        self.size = (height, width_px)
        self.width = hidden
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _layer(64, 64, 1)
        self.layer2 = _layer(64, 128, 2)
        self.layer3 = _layer(128, 256, 2)
        self.layer4 = _layer(256, 512, 2)
        self.project = nn.Linear(512, hidden)
        self.dropout = nn.Dropout(dropout)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)
        if weights != "none":
            self._load(weights)
        self.cut = (*STAGES, "head").index(train_from)
        for name in STAGES[: self.cut]:
            getattr(self, name).requires_grad_(False)

    def train(self, mode: bool = True) -> ResNet18:
        """Set the training mode; frozen layers stay in evaluation mode."""
        super().train(mode)
        for name in STAGES[: self.cut]:
            getattr(self, name).eval()
        return self

    def preprocessor(self) -> PosterPixels:
        """Pixels of the encoder's size."""
        return PosterPixels(*self.size)

    def stem(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Pixels (B, H, W, 3) uint8 to the feature map (B, C, h, w) after the frozen layers."""
        x = (inputs["pixels"].permute(0, 3, 1, 2).float() - self.mean) / self.std
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.cut == 0):
            return self._through(x, STAGES[: self.cut])

    def tail(self, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """The feature map to features (B, hidden)."""
        del inputs
        pooled = self._through(hidden, STAGES[self.cut :]).mean((2, 3))  # (B, 512)
        features: Tensor = self.dropout(F.relu(self.project(pooled)))
        return features

    def _through(self, x: Tensor, names: tuple[str, ...]) -> Tensor:
        for name in names:
            x = getattr(self, name)(x)
            if name == "bn1":
                x = F.max_pool2d(F.relu(x), 3, 2, 1)
        return x

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (B, H, W, 3) uint8 to features (B, hidden)."""
        inputs = {"pixels": pixels}
        return self.tail(self.stem(inputs), inputs)

    def stem_is_frozen(self) -> bool:
        """Whether the first layers may be cached."""
        return self.cut > 0

    def parameter_groups(self, lr: float, layer_decay: float, weight_decay: float) -> ParameterGroups:
        """One group a layer, the earliest with the smallest learning rate."""
        layers = [getattr(self, name) for name in (*STAGES, "project")]
        return linear_schedule_groups(layers, lr, layer_decay, weight_decay)

    def save_assets(self, folder: Path) -> dict[str, Any]:
        """Posters need no file; returns the options of the preprocessing."""
        del folder
        return {"height": self.size[0], "width": self.size[1], "mean": list(_MEAN), "std": list(_STD)}

    def example(self, batch: int) -> dict[str, Tensor]:
        """Random pixels."""
        generator = torch.Generator().manual_seed(0)
        return {"pixels": torch.randint(0, 256, (batch, *self.size, 3), dtype=torch.uint8, generator=generator)}

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Only the batch varies."""
        return {"pixels": {0: "batch"}}

    def _load(self, weights: str) -> None:
        published = read_weights(weights)
        own = [key for key in self.state_dict() if not key.startswith("project.")]
        # num_batches_tracked counts training steps; some files leave it out.
        missing = [key for key in own if key not in published and not key.endswith("num_batches_tracked")]
        if missing:
            raise UsageError(f"poster.encoder.weights: {weights} is not a ResNet-18: it has no {missing[0]}")
        try:
            self.load_state_dict({key: published[key] for key in own if key in published}, strict=False)
        except RuntimeError as error:
            raise UsageError(
                f"poster.encoder.weights: {weights} does not fit a ResNet-18 ({str(error).splitlines()[-1].strip()})"
            ) from error


def read_weights(weights: str) -> dict[str, Tensor]:
    """The tensors of a file or an address. Never runs what is in it.

    Raises:
        UsageError: there is no such file, or it holds no tensors.
        MmgcsError: the download failed.
    """
    if weights == "hub" or weights.startswith(("https://", "http://")):
        address = HUB if weights == "hub" else weights
        try:
            published: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
                address, map_location="cpu", check_hash=weights == "hub", weights_only=True, progress=False
            )
        except (OSError, RuntimeError, ValueError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # it holds the connection
            raise MmgcsError(
                f"the weights could not be downloaded ({' '.join(str(error).split())}); "
                f"fetch {address} where there is a network and give it with --set poster.encoder.options.weights=FILE"
            ) from error
        return published
    path = Path(weights)
    if not path.is_file():
        raise UsageError(f"poster.encoder.weights: {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        loaded: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors share no base; a damaged file raises any of several
        line = str(error).splitlines()[0]
        raise UsageError(f"poster.encoder.weights: {path} holds no weights ({line})") from error
    return loaded
