"""Gated fusion of inputs, any of which may be missing.

The Gated Multimodal Unit (Arevalo et al. 2017, "Gated Multimodal Units for Information Fusion") learns how far to
trust each input: h = Σ z_m · tanh(W_m x_m), with the gate z computed from all inputs. Here the gate is a softmax over
the inputs that are *present*, so a missing input needs no made-up value, and the unit corrects the weighted logits of
the single branches instead of replacing them. With the correction at zero, a film with one input gets exactly the
prediction of that input's own head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmgcs.models.base import FUSIONS
from mmgcs.models.linear_fusion import frozen_linear


@FUSIONS.register("gated")
class GatedFusion(nn.Module):
    """Branch logits, weighted for each genre, plus a gated correction.

    Args:
        heads: for each branch, the weight (genres, width) and bias (genres,) of its own head.
        hidden: width of the gated unit.
        dropout: dropout on the features and on the gated unit.
    """

    def __init__(self, heads: Sequence[tuple[Tensor, Tensor]], hidden: int = 64, dropout: float = 0.5) -> None:
        super().__init__()
        branches, genres = len(heads), heads[0][0].shape[0]
        widths = [weight.shape[1] for weight, _ in heads]
        self.heads = nn.ModuleList(frozen_linear(weight, bias) for weight, bias in heads)
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for width in widths)
        self.inputs = nn.ModuleList(nn.Linear(width, hidden) for width in widths)
        self.gate = nn.Linear(sum(widths) + branches, branches)
        self.out = nn.Linear(hidden, genres)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        # The weight of each branch's logit if all are present, and a shift, for each genre.
        self.mix = nn.Parameter(torch.full((branches, genres), 1.0 / branches))
        self.shift = nn.Parameter(torch.zeros(genres))
        self.dropout = nn.Dropout(dropout)
        # The weight of the correction: for each branch alone, and (last) for all together; chosen after training.
        self.share: Tensor
        self.register_buffer("share", torch.ones(branches + 1))

    def forward(self, features: Sequence[Tensor], present: Tensor) -> Tensor:
        """Turn features [(B, width)…] and present (B, branches) into logits (B, genres)."""
        logits = torch.stack([head(part) for head, part in zip(self.heads, features, strict=True)], 1)  # (B, M, G)
        count = present.sum(1, keepdim=True)  # (B, 1)
        alone = (count < 1.5).to(present.dtype).unsqueeze(-1)  # (B, 1, 1)
        weight = alone + (1.0 - alone) * self.mix  # (B, M, G)
        base = (logits * weight * present.unsqueeze(-1)).sum(1) + (1.0 - alone.squeeze(-1)) * self.shift  # (B, G)

        normed = [
            self.dropout(norm(part)) * present[:, index : index + 1]
            for index, (norm, part) in enumerate(zip(self.norms, features, strict=True))
        ]
        scores = self.gate(torch.cat([*normed, present], 1)) + (present - 1.0) * 1e4  # (B, M)
        z = torch.softmax(scores, 1).unsqueeze(-1)  # (B, M, 1)
        h = torch.stack([torch.tanh(layer(part)) for layer, part in zip(self.inputs, normed, strict=True)], 1)
        correction = self.out(self.dropout((z * h).sum(1)))  # (B, G)

        single = alone.squeeze(-1)  # (B, 1)
        share = single * (present * self.share[:-1]).sum(1, keepdim=True) + (1.0 - single) * self.share[-1]  # (B, 1)
        fused: Tensor = base + share * correction
        return fused
