"""Losses for multi-label classification.

Each loss returns one number per film and genre, so that unknown labels can be left out and films weighted.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmgcs.registry import Registry

LOSSES: Registry[Callable[..., nn.Module]] = Registry("loss")
"""Modules that turn logits and targets, (B, genres) each, into the loss of each film and genre (B, genres)."""


@LOSSES.register("bce")
class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy.

    Args:
        positives: share of films that have each genre (genres,).
        positive_weight: exponent of (1 − share) / share, the weight of a genre's positive labels; 0 turns it off.
        smoothing: label smoothing (Szegedy et al. 2016): targets become `smoothing` and 1 − `smoothing`.
    """

    def __init__(self, positives: Tensor, positive_weight: float = 0.0, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing
        weight = ((1.0 - positives) / positives.clamp_min(1e-4)) ** positive_weight
        self.weight: Tensor
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each film and genre (B, genres)."""
        soft = targets * (1.0 - 2.0 * self.smoothing) + self.smoothing
        return F.binary_cross_entropy_with_logits(logits, soft, pos_weight=self.weight, reduction="none")


@LOSSES.register("asymmetric")
class AsymmetricLoss(nn.Module):
    """Asymmetric loss (Ridnik et al. 2021): easy negatives count little, and not at all below probability `clip`.

    Args:
        positives: not used.
        gamma_negative, gamma_positive: focusing exponents.
        clip: the probability below which a negative label costs nothing.
    """

    def __init__(
        self, positives: Tensor, gamma_negative: float = 4.0, gamma_positive: float = 0.0, clip: float = 0.05
    ) -> None:
        super().__init__()
        del positives
        self.gamma_negative = gamma_negative
        self.gamma_positive = gamma_positive
        self.clip = clip

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each film and genre (B, genres)."""
        p = torch.sigmoid(logits)
        shifted = (p - self.clip).clamp_min(0.0)
        positive = targets * (1.0 - p) ** self.gamma_positive * F.logsigmoid(logits)
        negative = (1.0 - targets) * shifted**self.gamma_negative * torch.log((1.0 - shifted).clamp_min(1e-8))
        return -(positive + negative)
