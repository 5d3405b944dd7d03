"""Losses for multi-label classification.

Each loss returns one number per film and genre, so that unknown labels can be left out and films weighted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmgcs.errors import UsageError
from mmgcs.registry import Registry

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits and targets, (B, genres) each, to the loss of each film and genre (B, genres)."""

LOSSES: Registry[Callable[..., Loss]] = Registry("loss")


@LOSSES.register("bce")
def binary_cross_entropy(positives: Tensor, positive_weight: float = 0.0, smoothing: float = 0.0) -> Loss:
    """Binary cross-entropy.

    Args:
        positives: share of films that have each genre (genres,).
        positive_weight: exponent of (1 − share) / share, by which a genre's positive labels count more; 0 is off.
        smoothing: label smoothing (Szegedy et al. 2016): targets lie between this and one less this.
    """
    weight = ((1.0 - positives) / positives.clamp_min(1e-4)) ** positive_weight if positive_weight else None

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        soft = targets * (1.0 - 2.0 * smoothing) + smoothing
        return F.binary_cross_entropy_with_logits(logits, soft, pos_weight=weight, reduction="none")

    return loss


@LOSSES.register("asymmetric")
def asymmetric(positives: Tensor, gamma_negative: float = 4.0, gamma_positive: float = 0.0, clip: float = 0.05) -> Loss:
    """Asymmetric loss (Ridnik et al. 2021): easy negatives count little, and none below probability `clip`."""
    del positives

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        p = torch.sigmoid(logits)
        shifted = (p - clip).clamp_min(0.0)
        positive = targets * (1.0 - p) ** gamma_positive * F.logsigmoid(logits)
        negative = (1.0 - targets) * shifted**gamma_negative * torch.log((1.0 - shifted).clamp_min(1e-8))
        return -(positive + negative)

    return loss


def make_loss(kind: str, options: Mapping[str, Any], positives: Tensor) -> Loss:
    """The loss named in a recipe. Raises UsageError for an unknown name or setting."""
    try:
        return LOSSES[kind](positives, **options)
    except TypeError as error:
        raise UsageError(f"loss {kind}: {error}") from error
