"""What an encoder and a fusion are, and the registries that recipes name them in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmgcs.preprocess import Preprocessor
from mmgcs.registry import Registry

ParameterGroups = list[dict[str, Any]]


class Encoder(Protocol):
    """Turns one prepared input into features, in two halves so that a frozen first half can be cached.

    An encoder is also a `torch.nn.Module`.

    Attributes:
        input: what of a film it reads, "plot" or "poster".
        kind: the preprocessing's name, which the bundle records.
        width: features it makes.
        outputs: the names of what its graph computes; "features" is among them.
        matrices: optional; whether products of matrices are most of its work (`training.stage.fastest_precision`).
    """

    input: str
    kind: str
    width: int
    outputs: tuple[str, ...] = ("features",)

    def fit(self, texts: Sequence[str]) -> None:
        """Learn what must be known before training, such as a vocabulary, from the training films' texts.

        Optional: an encoder that needs no texts leaves it out.
        """

    def preprocessor(self) -> Preprocessor:
        """The preprocessing, the same object as running uses."""

    def stem(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The first half, from collated inputs to hidden values; no gradient where it is frozen."""

    def tail(self, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """The second half, from hidden values to features (B, width)."""

    def stem_is_frozen(self) -> bool:
        """Whether the first half never changes, so that its output may be cached."""

    def parameter_groups(self, lr: float, layer_decay: float, weight_decay: float) -> ParameterGroups:
        """What the optimiser trains, with a learning rate for each depth."""

    def save_assets(self, folder: Path) -> dict[str, Any]:
        """Put what preprocessing needs into the bundle's folder; returns the branch's options."""

    def example(self, batch: int) -> dict[str, Tensor]:
        """Inputs of the right shapes, for the exporter."""

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Which axes of the inputs vary."""


class Fusion(Protocol):
    """Turns the branches' features into logits, whichever of them are present. Also a `torch.nn.Module`."""

    def forward(self, features: Sequence[Tensor], present: Tensor) -> Tensor:
        """Features [(B, width)…] and present (B, branches) of 0 and 1 to logits (B, genres)."""


ENCODERS: Registry[Callable[..., nn.Module]] = Registry("encoder")
FUSIONS: Registry[Callable[..., nn.Module]] = Registry("fusion")


class SourceHead(nn.Module):
    """A linear head that knows whose labels it learns from.

    Catalogues disagree on what a genre is. Every source has a small correction to one common head, so the encoder
    learns from all labels while the answer is given in the words of one source (multi-task learning with shared
    parameters, as in Evgeniou & Pontil 2004, "Regularized multi-task learning").
    """

    def __init__(self, width: int, genres: int, sources: int, target: int) -> None:
        super().__init__()
        self.common = nn.Linear(width, genres)
        self.weight = nn.Parameter(torch.zeros(sources, genres, width))
        self.bias = nn.Parameter(torch.zeros(sources, genres))
        self.target = target
        nn.init.zeros_(self.common.weight)

    def forward(self, features: Tensor, source: Tensor) -> Tensor:
        """Features (B, width) and source (B,) int64 to logits (B, genres)."""
        own = torch.einsum("bw,bgw->bg", features, self.weight[source])  # (B, genres)
        logits: Tensor = self.common(features) + own + self.bias[source]
        return logits

    def target_linear(self) -> tuple[Tensor, Tensor]:
        """The one linear layer, (genres, width) and (genres,), that answers in the target source's words."""
        weight = self.common.weight + self.weight[self.target]
        bias = self.common.bias + self.bias[self.target]
        return weight.detach().clone(), bias.detach().clone()


def linear_schedule_groups(
    depths: Sequence[nn.Module], lr: float, layer_decay: float, weight_decay: float
) -> ParameterGroups:
    """Parameter groups whose learning rate falls by `layer_decay` a module from the last (the nearest to the head).

    Layer-wise learning-rate decay of Howard & Ruder 2018 and Clark et al. 2020 (ELECTRA). Biases and norms, which
    have one dimension, are not decayed.
    """
    groups: ParameterGroups = []
    for distance, module in enumerate(reversed(list(depths))):
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        for decayed in (True, False):
            chosen = [parameter for parameter in trained if (parameter.ndim > 1) is decayed]
            if chosen:
                decay = weight_decay if decayed else 0.0
                groups.append({"params": chosen, "lr": lr * layer_decay**distance, "weight_decay": decay})
    return groups
