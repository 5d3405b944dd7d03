"""Encode posters with ResNet-18 (He et al. 2016), with the layers named as in torchvision's weights."""

from __future__ import annotations

import urllib.error
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.models.base import ENCODERS, PixelEncoder, read_tensors

HUB = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
"""The first digits of the file's SHA-256 are in its name and are checked."""
STAGES = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions with a shortcut around them."""

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
        """Turn (B, inside, H, W) into (B, outside, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + shortcut)


class NormAndPool(nn.BatchNorm2d):
    """The BatchNorm after the first convolution, with the activation and the pooling that follow it."""

    def forward(self, x: Tensor) -> Tensor:
        """Turn (B, C, H, W) into (B, C, H / 2, W / 2)."""
        return F.max_pool2d(F.relu(super().forward(x)), 3, 2, 1)


def _layer(inside: int, outside: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(inside, outside, stride), BasicBlock(outside, outside, 1))


@ENCODERS.register("resnet18")
class ResNet18(PixelEncoder):
    """ResNet-18 with frozen early layers and a hidden layer before the head.

    Args:
        weights: "hub" (torchvision's ImageNet weights, downloaded once), an http(s) address or a .pth or .safetensors
            file with torchvision's keys, or "none" for a random start.
        height, width_px: the size that posters are stretched to, in pixels.
        train_from: the first layer to train: "layer4", an earlier one, "conv1" for all, or "head" for none. The
            BatchNorm statistics of frozen layers do not change.
        hidden: units of the hidden layer, which are the features.
        dropout: dropout on the features.
    """

    def __init__(
        self,
        weights: str = "hub",
        height: int = 224,
        width_px: int = 224,
        train_from: str = "layer4",
        hidden: int = 256,
        dropout: float = 0.5,
    ) -> None:
        # ImageNet's mean and standard deviation of red, green and blue.
        super().__init__(height, width_px, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
        if train_from not in (*STAGES, "head"):
            raise UsageError(f"poster.encoder.train_from is {train_from!r}; known: {', '.join(STAGES)}, head")
        self.width = hidden
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = NormAndPool(64)
        self.layer1 = _layer(64, 64, 1)
        self.layer2 = _layer(64, 128, 2)
        self.layer3 = _layer(128, 256, 2)
        self.layer4 = _layer(256, 512, 2)
        self.project = nn.Linear(512, hidden)
        self.dropout = nn.Dropout(dropout)
        if weights != "none":
            self._load(weights)
        self.freeze((*STAGES, "head").index(train_from))

    def stages(self) -> Sequence[nn.Module]:
        """Return the network's layers, from the input to the pooling."""
        return [getattr(self, name) for name in STAGES]

    def layers(self) -> Sequence[nn.Module]:
        """Return the stages and the hidden layer."""
        return [*self.stages(), self.project]

    def pool(self, maps: Tensor) -> Tensor:
        """Turn the last feature map into features (B, hidden)."""
        features: Tensor = self.dropout(F.relu(self.project(maps.mean((2, 3)))))
        return features

    def _load(self, weights: str) -> None:
        address = HUB if weights == "hub" else weights
        if address.startswith(("https://", "http://")):
            try:
                published: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
                    address, map_location="cpu", check_hash=address == HUB, weights_only=True, progress=False
                )
            except (OSError, RuntimeError, ValueError) as error:
                if isinstance(error, urllib.error.HTTPError):
                    error.close()  # it holds the connection
                raise MmgcsError(
                    f"the weights could not be downloaded ({' '.join(str(error).split())}); download {address} on a "
                    "machine with a network and give the file with --set poster.encoder.options.weights=FILE"
                ) from error
        else:
            published = read_tensors(Path(weights))
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
