"""The mean of the branches' own predictions; for a model with one input, simply its head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmgcs.models.base import FUSIONS


@FUSIONS.register("linear")
class LinearFusion(nn.Module):
    """The mean of the heads' logits over the branches that are present.

    Args:
        heads: for each branch, the weight (genres, width) and bias (genres,) of its head.
    """

    def __init__(self, heads: Sequence[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(frozen_linear(weight, bias) for weight, bias in heads)

    def forward(self, features: Sequence[Tensor], present: Tensor) -> Tensor:
        """Turn features [(B, width)…] and present (B, branches) into logits (B, genres)."""
        parts = [head(part) for head, part in zip(self.heads, features, strict=True)]
        logits = torch.stack(parts, 1)  # (B, branches, genres)
        weight = present.unsqueeze(-1)
        return (logits * weight).sum(1) / weight.sum(1).clamp_min(1.0)


def frozen_linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Return a linear layer that is not trained."""
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.load_state_dict({"weight": weight, "bias": bias})
    return linear.requires_grad_(False)
